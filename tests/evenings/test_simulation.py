"""A few simulated evenings with a training and a promotion: marked everywhere, resumed, and closed to real ones."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pandas as pd
import pytest

from flows.evening.forecasting import replay
from flows.nightly import nightly, update
from flows.runtime.context import open_run
from flows.simulation.checks import Request, check_request
from flows.simulation.simulate import Simulated, simulate
from flows.simulation.summary import summarize
from pipeline.errors import InputError, WorkspaceBusyError
from pipeline.ledger.ledger import Ledger
from pipeline.market.calendar import Calendar
from pipeline.prices.store import PriceStore
from pipeline.storage.files import hold_lock
from pipeline.storage.simulation_note import read_note, write_note
from tests.conftest import small_settings

pytestmark = pytest.mark.slow

SETTINGS = small_settings() + "\n[promotion]\nmin_sessions = 2\nmax_age = 3\n"
SPAN = (date(2018, 11, 29), date(2018, 12, 7))
"""Six evenings, a training on Saturday and a maintenance: New York was closed on 5 December."""


class Folder:
    """Settings, and the folder of a simulation."""

    def __init__(self, folder: Path) -> None:
        self.config, self.home, self.into = folder / "nextday.toml", folder / "data", folder / "into"
        self.config.write_text(SETTINGS)

    def request(self, first: date = SPAN[0], last: date = SPAN[1]) -> Request:
        return check_request(self.config, self.home, self.into, first, last)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.into / "ledger.sqlite", read_only=True)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Folder, Simulated]:
    folder = Folder(tmp_path_factory.mktemp("simulation"))
    return folder, simulate(folder.request())


def test_every_row_is_late_and_names_simulated_settings(done: tuple[Folder, Simulated]) -> None:
    folder, _ = done
    rows = pd.concat([folder.ledger.record("sample", role=role) for role in ("champion", "challenger")])
    assert set(rows["kind"]) == {"late"}
    assert set(rows["role"]) == {"champion", "challenger"}
    assert rows["config_digest"].str.fullmatch("simulated-[0-9a-f]{16}").all()
    [saved] = (folder.into / "settings").glob("*.json")
    assert json.loads(saved.read_text())["simulated"] is True
    assert rows["as_of"].nunique() == 6
    assert folder.ledger.verify().ok
    assert not folder.home.exists()


def test_the_pages_and_the_csv_say_simulated_and_nothing_says_live_record(
    done: tuple[Folder, Simulated],
) -> None:
    folder, simulated = done
    page = simulated.evening.paths.html.read_text()
    assert "Simulated by <code>nextday simulate</code>" in page or "Simulated by `nextday simulate`" in page
    assert simulated.evening.report.kind_and_cause == "late (simulated)"
    latest = pd.read_csv(folder.into / "reports" / "sample" / "latest.csv")
    assert latest["config_digest"].str.startswith("simulated-").all()
    assert set(latest["kind"]) == {"late"}
    [decay] = simulated.evening.report.decay
    assert decay.is_simulated
    assert decay.title == "too early: 5 sessions"


def test_the_summary_tells_what_the_sessions_would_have_looked_like(done: tuple[Folder, Simulated]) -> None:
    summary = summarize(done[1])
    assert (summary.evenings, summary.forecasts, summary.settled) == (6, 12, 10)
    assert (f"{summary.first:%m-%d}", f"{summary.last:%m-%d}") == ("11-29", "12-07")
    assert summary.challenger_rows
    assert summary.trainings == 2
    assert summary.promotions[0].reason == "first"
    assert len(summary.promotions) == 2
    [output] = summary.outputs
    assert output.verdict.n == 10
    assert output.verdict.baseline == "base_rate"
    assert output.scores[0].startswith("log loss 0.")
    assert summary.report.exists()


def test_a_simulated_session_is_replayed_the_same(done: tuple[Folder, Simulated]) -> None:
    folder, _ = done
    run = open_run(folder.config, folder.into, read_only=True)
    assert run.in_simulation
    assert replay(run, pd.Timestamp("2018-12-06")).is_same


def test_a_real_evening_is_refused_in_the_workspace_of_a_simulation(done: tuple[Folder, Simulated]) -> None:
    folder, _ = done
    head = folder.ledger.head()
    with pytest.raises(InputError, match="This is the workspace of a simulation"):
        nightly.fn(config=folder.config, home=folder.into)
    assert folder.ledger.head() == head


def test_other_settings_another_beginning_and_an_earlier_end_are_refused(
    done: tuple[Folder, Simulated],
) -> None:
    folder, _ = done
    with pytest.raises(InputError, match="begins with the evening of 2018-11-29"):
        simulate(folder.request(date(2018, 11, 30)))
    with pytest.raises(InputError, match="come to 2018-12-07 already"):
        simulate(folder.request(last=date(2018, 12, 4)))
    other = folder.config.with_name("other.toml")
    other.write_text(SETTINGS.replace("lookback = 5", "lookback = 6"))
    request = replace(folder.request(), config=other)
    with pytest.raises(InputError, match="was made with other settings"):
        simulate(request)
    with hold_lock(folder.into / "locks" / "simulation.lock", 0), pytest.raises(WorkspaceBusyError):
        simulate(folder.request())


def test_it_goes_on_where_it_was_and_to_a_later_session(
    done: tuple[Folder, Simulated], tmp_path: Path
) -> None:
    folder = Folder(tmp_path)
    shutil.copytree(done[0].into, folder.into)
    note = folder.into / "simulation.json"
    came_to = read_note(note)
    assert came_to is not None
    assert came_to.done == "2018-12-07T23:30:00+00:00"
    # Killed between an evening's end and its note: it is run again, and changes nothing. So does a finished simulation.
    for at in ("2018-12-06T23:30:00+00:00", came_to.done):
        write_note(note, replace(came_to, done=at))
        again = simulate(folder.request())
        assert again.evening.new_rows == 0
        assert folder.ledger.head() == done[0].ledger.head()
        assert read_note(note) == came_to
    later = simulate(folder.request(last=date(2018, 12, 10)))
    assert (later.evenings, later.evening.new_rows) == (7, 2)
    assert len(folder.ledger.record("sample")) == 14


REMOTE = """
import numpy as np
import pandas as pd

class Vendor:
    def fetch(self, symbol, start, end, now):
        with open(__file__ + ".asked", "a") as asked:
            print(symbol, file=asked)
        days = pd.bdate_range("2017-01-02", "2018-12-31")
        days = days[~days.isin(pd.to_datetime({closed}))]
        close = 100 * np.exp(np.cumsum(np.random.default_rng(ord(symbol)).normal(0, 0.01, len(days))))
        bars = pd.DataFrame({{"date": days, "open": close, "high": close * 1.01, "low": close * 0.99, "close": close}})
        return bars.assign(volume=1e6)
"""


def test_prices_of_a_remote_source_come_from_the_workspace_and_nobody_is_asked(
    own_modules: Path, xnys: Calendar
) -> None:
    folder = Folder(own_modules)
    weekdays = pd.bdate_range("2017-01-02", "2018-12-31")
    closed = [f"{day:%Y-%m-%d}" for day in weekdays if day not in xnys.sessions]
    (own_modules / "remote_vendor.py").write_text(REMOTE.format(closed=closed))
    universe = '[universe]\nname = "us"\nsource = "remote_vendor:Vendor"\nsymbols = ["A", "B"]\n'
    folder.config.write_text(universe + small_settings("2017-01-03"))
    update.fn(config=folder.config, home=folder.home, now=datetime(2018, 12, 31, 23, tzinfo=UTC))
    asked = own_modules / "remote_vendor.py.asked"
    assert asked.read_text().split() == ["A", "B"]
    simulated = simulate(folder.request(date(2018, 12, 10), date(2018, 12, 12)))
    assert asked.read_text().split() == ["A", "B"]
    record = folder.ledger.record("us")
    assert len(record) == 6
    assert record["outcome"].notna().sum() == 2  # a bar of the same evening is not settled yet
    assert simulated.failed == []
    stored = PriceStore(folder.home / "prices" / "us").read(pd.Timestamp("2018-12-12"))
    known = PriceStore(folder.into / "prices" / "us").read()
    names = ["symbol", "session", "open", "high", "low", "close", "volume", "dividend", "split"]
    pd.testing.assert_frame_equal(known[names], stored[names])
