"""Two evenings with calendar, sector and context columns: trained, sealed, replayed, audited, and refused."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.evening.forecasting import replay
from flows.nightly import Evening, nightly
from flows.operations.audit import gather, run_checks
from flows.runtime.context import open_run
from flows.training.evaluation import load_evaluation
from flows.training.verified_champion import Champions
from pipeline.errors import InputError
from pipeline.market.calendar import Calendar
from tests.conftest import random_bars, small_settings
from tests.support.own_process import EVENING

pytestmark = [pytest.mark.slow, pytest.mark.own_process(*EVENING)]

MONDAY, TUESDAY = pd.Timestamp("2018-12-10"), pd.Timestamp("2018-12-11")
SETTINGS = f"""
[universe]
name = "inputs"
source = "files"
path = "prices.csv"
file = "list.csv"
sector = "industry"
historical = true
[features]
add = ["context", "sector", "calendar"]
[context]
symbols = ["^VIX", "^N225"]
source = "files"
path = "context.csv"
calendar = {{ "^N225" = "XTKS" }}
lag = {{ "^VIX" = "15 minutes" }}
{small_settings("2017-01-03")}
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, xnys: Calendar) -> tuple[Path, list[Evening]]:
    """Two evenings; Tuesday's value of Tokyo does not come, and the VIX of both days is known a session later."""
    folder = tmp_path_factory.mktemp("inputs")
    sessions = xnys.sessions_between(pd.Timestamp("2017-01-03"), TUESDAY)
    bars = {symbol: random_bars(sessions, seed).assign(symbol=symbol) for seed, symbol in enumerate("ABCDEF")}
    prices = pd.concat(bars.values()).rename(columns={"session": "date"}).drop(columns=["split", "dividend"])
    series = {symbol: random_bars(sessions, seed) for seed, symbol in ((10, "^VIX"), (11, "^N225"))}
    context = pd.concat([rows[["session", "close"]].assign(symbol=name) for name, rows in series.items()])
    context = context.rename(columns={"session": "date"})
    (folder / "list.csv").write_text("symbol,industry\nA,Banks\nB,Banks\nC,Banks\nD,Ships\nE,Ships\nF,\n")
    (folder / "nextday.toml").write_text(SETTINGS)
    evenings = []
    for session in (MONDAY, TUESDAY):
        prices[prices["date"] <= session].to_csv(folder / "prices.csv", index=False)
        late = (context["symbol"] == "^N225") & (context["date"] == TUESDAY)
        context[(context["date"] <= session) & ~late].to_csv(folder / "context.csv", index=False)
        now = (xnys.closes[session] + timedelta(days=2)).to_pydatetime()
        evenings.append(nightly.fn(config=folder / "nextday.toml", home=folder / "data", now=now))
    return folder, evenings


def test_the_page_says_what_was_known_and_what_the_context_brought(two: tuple[Path, list[Evening]]) -> None:
    _, (first, second) = two
    assert (first.new_rows, second.new_rows) == (6, 6)
    assert (first.report.members, first.report.covered, first.report.bias != "") == (6, 6, True)
    known = "Context as known at the close of {}: ^VIX of {}, ^N225 of 2018-12-10{}."
    assert known.format("2018-12-10", "2018-12-07", "") in first.report.notes
    carried = " (carried: the value due is missing)"
    assert known.format("2018-12-11", "2018-12-10", carried) in second.report.notes
    brought = [note for note in second.report.notes if note.startswith("Context (^VIX, ^N225): ")]
    assert len(brought) == 1
    assert "validation sessions" in brought[0]
    assert brought[0] in second.paths.html.read_text().replace("&#43;", "+")
    assert "own + calendar + sector + context (37 columns)" in second.report.model["features"]


def test_the_gain_is_kept_with_the_evaluation_of_the_champion(two: tuple[Path, list[Evening]]) -> None:
    folder, _ = two
    run = open_run(folder / "nextday.toml", folder / "data")
    champion = Champions(run).serving()
    assert champion is not None
    evaluation = load_evaluation(run.workspace.evaluation("inputs", champion.version), champion.evaluation)
    assert evaluation.context is not None
    ends = evaluation.ranges[evaluation.ranges["fit"] == "score"].set_index("part")
    assert evaluation.context.first >= f"{ends.loc['stop', 'first_session']:%Y-%m-%d}"
    assert evaluation.context.last <= f"{ends.loc['calibrate', 'last_session']:%Y-%m-%d}"
    assert evaluation.context.last < f"{ends.loc['test', 'first_session']:%Y-%m-%d}"
    assert champion.sectors == ("Banks", "Ships")


def test_both_evenings_are_replayed_from_the_series_as_they_were_known(
    two: tuple[Path, list[Evening]], xnys: Calendar
) -> None:
    folder, _ = two
    rows = pd.read_csv(folder / "context.csv")
    rows.loc[rows["date"] == "2018-12-07", "close"] *= 1.05
    rows.to_csv(folder / "context.csv", index=False)
    now = (xnys.closes[TUESDAY] + timedelta(days=3)).to_pydatetime()
    assert nightly.fn(config=folder / "nextday.toml", home=folder / "data", now=now).new_rows == 0
    run = open_run(folder / "nextday.toml", folder / "data", now)
    corrected = run.of_context(run.context[0]).store.versions(symbols=["^VIX"])
    assert corrected["session"].duplicated().any()
    for session in (MONDAY, TUESDAY):
        again = replay(run, session)
        assert len(again.rows) == 6
        assert again.is_same
    assert run.ledger.verify().ok


def test_the_audit_of_the_features_finds_nothing(two: tuple[Path, list[Evening]]) -> None:
    folder, _ = two
    subject = gather(open_run(folder / "nextday.toml", folder / "data"), full=False)
    assert subject.features.context is not None
    found = [check for check in run_checks(subject) if check.name.startswith("features")]
    assert [check.status for check in found] == ["passed"] * len(found)
    assert len(found) >= 5


def test_other_series_or_no_sectors_need_a_new_champion(two: tuple[Path, list[Evening]]) -> None:
    folder, _ = two
    now = pd.Timestamp("2018-12-13T23:00", tz="UTC").to_pydatetime()
    other = SETTINGS.replace('lag = { "^VIX" = "15 minutes" }', 'lag = "1 session"')
    (folder / "other.toml").write_text(other)
    run = open_run(folder / "other.toml", folder / "data", now)
    champion = Champions(run).serving()
    assert champion is not None
    with pytest.raises(
        InputError, match="The champion reads \\^VIX, \\^N225 as context, and the settings name others"
    ):
        champion.feature_set(run)
    less = SETTINGS.replace('sector = "industry"\n', "").replace('"sector", ', "")
    (folder / "less.toml").write_text(less)
    with pytest.raises(InputError, match="The champion reads the sectors of the constituents"):
        champion.feature_set(open_run(folder / "less.toml", folder / "data", now))
    new = (folder / "list.csv").read_text().replace("F,\n", "F,Mines\n")
    (folder / "list.csv").write_text(new)
    mines = champion.feature_set(open_run(folder / "nextday.toml", folder / "data", now))
    assert [name for name in mines.columns if "_is_" in name][-2:] == ["sector_is_Banks", "sector_is_Ships"]
    assert np.isin(["context_^VIX_change_1", "next_is_half_day"], mines.columns).all()
