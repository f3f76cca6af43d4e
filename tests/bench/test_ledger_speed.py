"""The ledger's speed on SQLite, and on a PostgreSQL server of its own on loopback."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from pipeline.ledger import hash_chain, known_head
from pipeline.ledger.hash_chain import FORECAST, OUTCOME
from pipeline.ledger.ledger import Ledger
from pipeline.storage.ledger_database import LedgerPlace, locate_ledger
from tests.bench.stopwatch import Lap, median, tell, timed
from tests.support.made_sequences import NO_MEDIAN

pytestmark = pytest.mark.bench

SYMBOLS = [f"S{n:03d}" for n in range(500)]
EVENING = datetime(2018, 1, 1, 22, tzinfo=UTC)
KEY = ["symbol", "as_of", "target_session", "horizon", "target"]
LAPS = 5
EVENINGS = 1_000
"""With as many outcomes as forecasts: a million rows."""


def evening(day: int) -> pd.DataFrame:
    frame = pd.DataFrame({"symbol": SYMBOLS}).assign(
        as_of=pd.Timestamp(2018, 1, 1) + timedelta(days=day), target_session=pd.Timestamp(2038, 1, 1), horizon=1,
        model_version="gru-1", issued_at=EVENING + timedelta(days=day), p_up=0.52, low=0.49, high=0.55,
        direction="up", baseline_p_up=0.53, last_close=100.0, data_version=7, config_digest="c0ffee",
        role="champion", target="direction",
    )  # fmt: skip
    return frame.astype(
        {"as_of": "datetime64[us]", "target_session": "datetime64[us]", "issued_at": "datetime64[us, UTC]"}
    )


def outcomes(day: int) -> pd.DataFrame:
    frame = evening(day)[KEY].assign(
        outcome=1.0,
        realized_return=0.0125,
        settled_at=EVENING + timedelta(days=day),
        data_version=9,
        **NO_MEDIAN,
    )
    return frame.astype({"settled_at": "datetime64[us, UTC]", "median_basis": "str", "void_reason": "str"})


def issue(ledger: Ledger, day: int) -> None:
    ledger.issue(evening(day), universe="bench", opens={}, newest_observed_at=EVENING, historical=True)


@pytest.fixture
def places(address: str, tmp_path: Path) -> dict[str, LedgerPlace]:
    return {
        "SQLite": tmp_path / "ledger.sqlite",
        "PostgreSQL": locate_ledger(address, tmp_path / "shared" / "ledger.sqlite"),
    }


def test_a_year_of_500_symbols_is_issued_and_verified_quickly(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    laps = [timed(issue, ledger, day) for day in range(250)]
    verified = timed(verify, ledger, 125_000)
    print(f"\nfile {(tmp_path / 'ledger.sqlite').stat().st_size / 1e6:.0f} MB")
    tell("seal 500 forecasts", laps, limit=0.5)
    tell("verify a year", [verified], limit=10)
    assert median(laps) < 0.5
    assert verified.wall < 10


def test_an_evening_on_postgresql_takes_at_most_twice_as_long_as_on_sqlite(
    places: dict[str, LedgerPlace],
) -> None:
    ledgers = {name: Ledger(place) for name, place in places.items()}
    laps: dict[str, list[Lap]] = {name: [] for name in ledgers}
    for day in range(1 + LAPS):
        for name, ledger in ledgers.items():
            laps[name].append(timed(seal_and_settle, ledger, day))
    for each in laps.values():
        del each[0]  # it imports the driver, and warms the server
    print()
    for name, each in laps.items():
        tell(f"seal and settle 500 symbols on {name}", each, laps["SQLite"], most=2)
    assert ledgers["SQLite"].head() == ledgers["PostgreSQL"].head()
    assert median(laps["PostgreSQL"]) <= 2 * median(laps["SQLite"])


@pytest.mark.parametrize("name", ["SQLite", "PostgreSQL"])
def test_a_million_rows_are_verified_in_a_minute(places: dict[str, LedgerPlace], name: str) -> None:
    ledger = Ledger(places[name])
    fill(ledger)
    verified = timed(verify, ledger, EVENINGS * len(SYMBOLS))
    print()
    tell(f"verify 500,000 forecasts and as many outcomes on {name}", [verified], limit=60)
    assert verified.wall <= 60


def seal_and_settle(ledger: Ledger, day: int) -> None:
    issue(ledger, day)
    assert ledger.settle(outcomes(day), universe="bench") == len(SYMBOLS)


def verify(ledger: Ledger, forecasts: int) -> None:
    found = ledger.verify()
    assert (found.problems, found.forecasts) == ([], forecasts)


def fill(ledger: Ledger) -> None:
    """Seal an evening, and repeat it with other dates in one transaction, without the checks of each row."""
    seal_and_settle(ledger, 0)
    with hash_chain.opened(ledger.path) as db:
        db.begin_writing()
        rows = [
            (
                chain,
                [dict(zip(chain.columns, row, strict=True)) for row in hash_chain.read_rows(db, chain, 1)],
            )
            for chain in (FORECAST, OUTCOME)
        ]
        for day in range(1, EVENINGS):
            as_of = f"{EVENING + timedelta(days=day):%Y-%m-%d}"
            for chain, first in rows:
                dated = {"as_of": as_of, chain.clock: f"{as_of}T22:00:00.000000+00:00"}
                hash_chain.append(db, chain, [row | dated for row in first])
        head = hash_chain.find_head(db)
        db.execute("COMMIT")
    known_head.note(ledger.path, head)
