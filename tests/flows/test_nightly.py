"""Whether a nightly run still has something to forecast, before it fetches anything."""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from flows.nightly import has_champion, is_sealed
from flows.runtime.context import Run, open_run
from tests.support.command_line import seal_one, seal_with_model

AFTER = datetime(2018, 12, 10, 22, tzinfo=UTC)
"""After the close of the session that `seal_one` forecasts from."""


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def opened(settings: str = '[universe]\nsymbols = ["^GSPC"]\n', now: datetime = AFTER) -> Run:
    Path("nextday.toml").write_text(f"{settings}[prices]\nstart = 2018-11-01\n")
    return open_run(Path("nextday.toml"), Path("w"), now)


def test_nothing_is_sealed_at_first() -> None:
    run = opened()
    assert not is_sealed(run)
    assert not run.workspace.ledger.exists()


def test_every_member_is_sealed_at_every_horizon() -> None:
    opened()
    seal_one()
    assert is_sealed(opened())
    assert not is_sealed(opened(""))  # the sample's second member lacks its row
    assert not is_sealed(opened('[labels]\nhorizons = [1, 5]\n[universe]\nsymbols = ["^GSPC"]\n'))


def test_a_newer_session_has_closed() -> None:
    opened()
    seal_one()
    assert is_sealed(opened(now=datetime(2018, 12, 11, 20, tzinfo=UTC)))
    assert not is_sealed(opened(now=datetime(2018, 12, 11, 22, tzinfo=UTC)))


def test_the_newest_session_of_files_is_that_of_their_rows() -> None:
    bars = pd.DataFrame({"date": pd.bdate_range("2018-11-01", "2018-12-10"), "symbol": "A"})
    bars = bars[bars["date"] != "2018-12-05"].assign(
        open=1.0, high=1.0, low=1.0, close=1.0
    )  # New York was closed
    bars.to_csv("prices.csv", index=False)
    files = '[universe]\nsource = "files"\npath = "prices.csv"\nhistorical = true\n'
    opened(files)
    later = datetime(2018, 12, 20, 22, tzinfo=UTC)
    seal_one()
    assert is_sealed(opened(files, later))
    last = bars.iloc[-1:].assign(date=pd.Timestamp("2018-12-11"))
    pd.concat([bars, last]).to_csv("prices.csv", index=False)
    assert not is_sealed(opened(files, later))
    assert not is_sealed(opened(files.replace("true", "false"), later))  # a live source: the 20th has closed


def test_a_remote_source_that_ended_would_have_to_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    opened()
    seal_one()
    run = opened()
    monkeypatch.setattr(run.source, "is_local", False)
    assert not is_sealed(run)


def test_a_champion_is_one_that_was_promoted() -> None:
    assert not has_champion(opened())
    seal_with_model()
    assert has_champion(opened(""))
