"""The run's clock, settings and prices: what counts as now, and which prices cannot be joined."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from flows.evening.settlement import settle
from flows.prices.fetch import plan_tonight
from flows.prices.missing import Reasons
from flows.prices.update import check_prices, read_price_status
from flows.runtime.context import Run, open_run, with_former_settings
from flows.runtime.locations import absolute_path
from flows.runtime.progress import PlainProgress, progress_shown_by
from flows.runtime.tasks import open_locked_run
from flows.training.verified_champion import champion_known_at
from pipeline.config import digest
from pipeline.errors import InputError, NextdayError
from pipeline.market.calendar import Calendar
from pipeline.prices.ingest.quality import no_findings
from pipeline.storage.files import write_text
from pipeline.tracking.registry import RegisteredModel
from tests.conftest import NOW, vendor_bars

SETTINGS = """
[universe]
name = "u"
source = "files"
path = "prices.csv"
historical = {historical}
symbols = {symbols}
"""


@pytest.fixture
def folder(tmp_path: Path, xnys: Calendar) -> Path:
    sessions = xnys.sessions[:30]
    parts = [vendor_bars(sessions, 100 + np.arange(30) + k).assign(symbol=s) for k, s in enumerate("AB")]
    pd.concat(parts).rename(columns={"session": "date"}).to_csv(tmp_path / "prices.csv", index=False)
    return tmp_path


def run(
    folder: Path, *, symbols: str = '["A", "B"]', historical: str = "true", now: datetime | None = NOW
) -> Run:
    (folder / "nextday.toml").write_text(SETTINGS.format(symbols=symbols, historical=historical))
    return open_run(folder / "nextday.toml", folder / "data", now)


def stored(made: Run) -> Run:
    answers = [
        made.source.fetch(s, pd.Timestamp("1999-01-01"), made.last_closed, NOW) for s in made.universe.symbols
    ]
    check_prices.fn(made, answers, plan_tonight(made))
    return made


def test_the_wall_clock_goes_on_and_a_given_one_stands(folder: Path) -> None:
    live, given = run(folder, now=None), run(folder)
    assert not live.is_simulated
    assert live.now <= live.clock() < live.clock()
    assert given.is_simulated
    assert given.clock() == given.now == NOW


def test_even_a_clock_a_minute_back_is_a_given_one(folder: Path) -> None:
    assert run(folder, now=datetime.now(UTC) - timedelta(minutes=1)).is_simulated


def test_a_live_source_refuses_a_clock_of_the_future(folder: Path) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    with pytest.raises(InputError, match="is in the future"):
        run(folder, historical="false", now=tomorrow)
    assert run(folder, historical="true", now=tomorrow).now == tomorrow


def test_prices_of_two_sources_do_not_join(folder: Path) -> None:
    stored(run(folder))
    other = open_run(folder / "nextday.toml", folder / "data", NOW)
    object.__setattr__(other.source, "name", "elsewhere")
    with pytest.raises(InputError, match="bars of two vendors cannot be joined"):
        check_prices.fn(other, [], {})


def issue(made: Run, place: int) -> None:
    """Seal a forecast of A and B from session number `place`."""
    as_of, target = made.calendar.sessions[place : place + 2]
    rows = pd.DataFrame({"symbol": ["A", "B"]}).assign(
        as_of=as_of, target_session=target, horizon=1, model_version="m",
        issued_at=pd.Timestamp(NOW), p_up=0.6, low=0.5, high=0.7, direction="up", baseline_p_up=0.5,
        last_close=110.0, data_version=1, config_digest=made.digest, role="champion", target="direction",
    )  # fmt: skip
    kinds = {
        "as_of": "datetime64[us]",
        "target_session": "datetime64[us]",
        "issued_at": "datetime64[us, UTC]",
    }
    made.ledger.issue(rows.astype(kinds), universe="u", opens={}, newest_observed_at=NOW, historical=True)


def settled(made: Run) -> int:
    return settle.fn(
        made, read_price_status(made, Reasons(), no_findings()), made.ledger.universe_record(made.name)
    )


def test_a_symbol_that_left_the_universe_is_settled_all_the_same(folder: Path) -> None:
    issue(stored(run(folder)), 10)
    smaller = run(folder, symbols='["A"]')
    assert settled(smaller) == 2
    outcomes = smaller.ledger.record("u").set_index("symbol")
    assert outcomes.loc["B", "outcome"] == 1
    assert outcomes.loc["B", "realized_return"] == pytest.approx(112 / 111 - 1)


@pytest.mark.slow
def test_a_close_that_is_revised_after_its_outcome_is_listed_with_it_once(folder: Path) -> None:
    issue(stored(run(folder)), 20)
    assert settled(run(folder)) == 2
    table = pd.read_csv(folder / "prices.csv")
    table.loc[(table["symbol"] == "B") & (table["date"] == f"{run(folder).calendar.sessions[21]:%Y-%m-%d}"), [
        "open", "high", "low", "close"
    ]] = 119.0  # fmt: skip
    table.to_csv(folder / "prices.csv", index=False)
    later = stored(run(folder))
    assert [settled(later), settled(later)] == [0, 0]
    assert later.ledger.record("u")["outcome"].tolist() == [1, 1]
    (found,) = later.ledger.corrections("u").itertuples()
    assert (found.symbol, found.first_outcome, found.outcome) == ("B", 1, 0)
    assert found.first_return == pytest.approx(122 / 121 - 1)
    assert found.realized_return == pytest.approx(119 / 121 - 1)
    assert later.ledger.verify().ok


def test_a_historical_source_with_members_that_ended_is_not_stale(folder: Path) -> None:
    table = pd.read_csv(folder / "prices.csv")
    table = table[(table["symbol"] == "A") | (table["date"] < "1999-01-20")]
    table.to_csv(folder / "prices.csv", index=False)
    market = read_price_status(stored(run(folder)), Reasons(), no_findings())
    assert (market.members, market.covered) == (2, 1)
    assert set(market.missing) == {"B"}


def test_a_run_that_waited_for_another_reads_the_files_and_the_clock_again(folder: Path) -> None:
    first = run(folder, symbols="[]", now=None)
    lock = FileLock(folder / "data" / "locks" / "u.lock")
    Path(lock.lock_file).parent.mkdir(parents=True)
    lines: list[str] = []

    class ReleasesLock(PlainProgress):
        def log_line(self, line: str) -> None:
            lines.append(line)
            table = pd.read_csv(folder / "prices.csv")
            table[table["symbol"] == "A"].to_csv(folder / "prices.csv", index=False)
            lock.release()

    lock.acquire()
    with (
        progress_shown_by(ReleasesLock()),
        open_locked_run(first.base / "nextday.toml", folder / "data", None) as again,
    ):
        assert again.universe.symbols == ["A"]
        assert again.now > first.now
    assert len(lines) == 1
    assert first.universe.symbols == ["A", "B"]


def test_the_model_that_was_known_then_is_the_first_of_the_list_whatever_its_number() -> None:
    def model(version: str, number: int, day: str, promoted: bool) -> RegisteredModel:
        at = NOW if promoted else None
        return RegisteredModel(version, Path(version), pd.Timestamp(day), at, "run", number, {})

    models = [
        model("future", 4, "2019-02-01", True),
        model("never champion", 3, "2019-01-03", False),
        model("after the database was lost", 1, "2019-01-02", True),
        model("before", 30, "2018-12-01", True),
    ]
    known = champion_known_at(models, pd.Timestamp("2019-01-04"))
    assert known is not None
    assert known.model_version == "after the database was lost"
    assert champion_known_at(models, pd.Timestamp("2018-11-30")) is None


def test_settings_of_another_version_are_reported(folder: Path) -> None:
    made = run(folder)
    resolved = made.resolved | {"settings": made.resolved["settings"] | {"weather": {}}}
    name = digest(resolved)
    write_text(made.workspace.home / "settings" / f"{name}.json", json.dumps(resolved))
    with pytest.raises(NextdayError, match="another version of nextday"):
        with_former_settings(made, name)


def listed(folder: Path, rows: str) -> Run:
    (folder / "list.csv").write_text(f"symbol,from,to,formerly\n{rows}\n")
    settings = SETTINGS.replace("symbols = {symbols}", 'file = "list.csv"').format(historical="true")
    (folder / "nextday.toml").write_text(settings)
    return open_run(folder / "nextday.toml", folder / "data", NOW)


def test_a_replay_uses_the_renames_known_at_its_time(folder: Path) -> None:
    made = listed(folder, "A,,,OLD OLDER\nB,,,")
    made.save_settings()
    later = listed(folder, "A,,,\nB,,,")
    former = with_former_settings(later, made.digest).universe
    assert former.instruments == {"A": "OLD", "OLD": "OLD", "OLDER": "OLD", "B": "B"}
    assert later.universe.instruments == {"A": "A", "B": "B"}


def test_settings_without_a_rename_keep_their_digest(folder: Path) -> None:
    made = listed(folder, "A,,,\nB,2000-01-03,,")
    members = [["A", None, None], ["B", "2000-01-03", None]]
    assert made.digest == digest({"settings": made.config.resolved(), "members": members})
    assert listed(folder, "A,,,OLD\nB,2000-01-03,,").digest != made.digest


def lack_bars(folder: Path, day: pd.Timestamp, symbols: str) -> None:
    """Remove a day's bars of these symbols from the source."""
    table = pd.read_csv(folder / "prices.csv")
    is_gone = (table["date"] == f"{day:%Y-%m-%d}") & table["symbol"].isin([*symbols])
    table[~is_gone].to_csv(folder / "prices.csv", index=False)


def close(folder: Path, day: pd.Timestamp) -> Run:
    run(folder)
    (folder / "closures.csv").write_text(f"session,opens,closes\n{day:%Y-%m-%d},,\n")
    settings = (folder / "nextday.toml").read_text() + 'closures = "closures.csv"\n'
    (folder / "nextday.toml").write_text(settings)
    return open_run(folder / "nextday.toml", folder / "data", NOW)


def test_a_forecast_for_a_day_that_turned_out_closed_is_void(folder: Path) -> None:
    day = run(folder).calendar.sessions[11]
    lack_bars(folder, day, "AB")
    made = stored(run(folder))
    issue(made, 10)
    issue(made, 12)
    assert settled(made) == 2  # the calendar still has a session on that day
    assert made.ledger.record("u")["settled_at"].isna().sum() == 2
    later = close(folder, day)
    assert settled(later) == 0
    record = later.ledger.record("u")
    void = record[record["target_session"] == day]
    assert void["void_reason"].tolist() == [f"the exchange was closed on {day:%a %Y-%m-%d}"] * 2
    assert void["settled_at"].notna().all()
    assert void[["outcome", "realized_return"]].isna().all(axis=None)
    rest = record[record["target_session"] != day]
    assert rest["outcome"].tolist() == [1, 1]
    assert rest["void_reason"].isna().all()
    assert later.ledger.verify().ok
    again = later.ledger.head()
    assert settled(later) == 0
    assert later.ledger.head() == again
    later.ledger.export_csv("u", folder / "record.csv")
    assert pd.read_csv(folder / "record.csv")["void_reason"].dropna().tolist() == [*void["void_reason"]]


def test_an_outcome_after_a_void_one_is_listed_and_does_not_count(folder: Path) -> None:
    whole = (folder / "prices.csv").read_text()
    day = run(folder).calendar.sessions[21]
    lack_bars(folder, day, "AB")
    issue(stored(run(folder)), 20)
    assert settled(close(folder, day)) == 0
    (folder / "prices.csv").write_text(whole)
    reopened = stored(run(folder))
    assert settled(reopened) == 0
    record, corrections = reopened.ledger.record("u"), reopened.ledger.corrections("u")
    assert record["outcome"].isna().all()
    assert record["void_reason"].notna().all()
    assert corrections["outcome"].tolist() == [1, 1]


def test_a_forecast_for_a_day_with_bars_stays_open_whatever_the_closures_say(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = stored(run(folder))
    issue(made, 10)
    issue(made, 12)
    day = made.calendar.sessions[11]
    later = close(folder, day)
    with caplog.at_level("INFO"):
        assert settled(later) == 2
    assert "2 of 2 symbols have a bar of it: its forecasts stay open" in caplog.text
    record = later.ledger.record("u")
    assert record.loc[record["target_session"] == day, "settled_at"].isna().all()
    assert record.loc[record["target_session"] != day, "outcome"].tolist() == [1, 1]
    assert later.ledger.verify().ok


def test_a_forecast_for_the_newest_session_is_not_void_yet(folder: Path) -> None:
    last = run(folder).calendar.sessions[29]
    lack_bars(folder, last, "AB")
    made = stored(run(folder))
    issue(made, 28)
    assert settled(close(folder, last)) == 0
    assert made.ledger.record("u")["settled_at"].isna().all()


def test_bars_of_all_symbols_on_a_day_without_a_session_are_one_finding(folder: Path) -> None:
    day = run(folder).calendar.sessions[11]
    told = close(folder, day)
    answers = [told.source.fetch(s, pd.Timestamp("1999-01-01"), told.last_closed, NOW) for s in ("A", "B")]
    found = check_prices.fn(told, answers, plan_tonight(told))
    of_all = found[found["rule"] == "unknown session"]
    assert of_all[["symbol", "session"]].values.tolist() == [["XNYS", day]]
    assert "2 of 2 symbols have a bar; if the exchange was open, write its hours" in of_all["detail"].iloc[0]


def test_an_outcome_reaches_to_the_target_session_over_one_that_was_written_down_later(folder: Path) -> None:
    sessions = stored(run(folder)).calendar.sessions
    issue(close(folder, sessions[11]), 10)  # as the calendar has it, the next one is number 12
    later = run(folder)
    assert settled(later) == 2
    record = later.ledger.record("u").set_index("symbol")
    assert record.loc["A", "target_session"] == sessions[12]
    assert record.loc["A", "realized_return"] == pytest.approx(112 / 110 - 1)


def test_a_path_that_is_too_long_is_named_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="This path is too long") as refused:
        absolute_path(tmp_path / ("x" * 300))
    assert "255 bytes" in refused.value.fix
    assert list(tmp_path.iterdir()) == []
