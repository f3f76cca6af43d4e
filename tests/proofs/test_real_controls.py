"""Controls on real prices, through the whole procedure: what is known to be there is found, what is not there is not.

The rule of choice stood before any result: the 100 stocks with the most dollars traded in the last 252 sessions before
the stop and calibrate ranges end, so before the test; ranges that end with a year; two members in sequence mode with
batches of 4096, everything else as shipped. docs/results.md has the figures.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.runtime.context import Run, open_run
from flows.training.history import History, make_sequences
from pipeline.evaluation.verdict import Verdict
from pipeline.prices.ingest.quality import check
from tests.conftest import NOW
from tests.flows.training.test_planted import verdict_of

pytestmark = [pytest.mark.slow, pytest.mark.proof]

MOST_TRADED, YEAR = 100, 252
NINETIES = ("1988-01-01", "1992-12-31", "1994-12-31", "1999-10-29")
TWENTY_TENS = ("2005-01-01", "2010-12-31", "2012-12-31", "2015-12-31")
"""The first session, and the last target sessions of train, of stop and calibrate, and of the test."""


def settings(target: str, dates: Sequence[str], adjustment: str) -> str:
    start, train_end, validation_end, test_end = dates
    return f"""
[universe]
name = "control"
source = "files"
path = "prices.parquet"
historical = true
[prices]
start = {start}
adjustment = "{adjustment}"
[labels]
targets = ["{target}"]
[model]
members = 2
[training]
mode = "sequence"
batch_size = 4096
processes = 1
[evaluation]
train_end = {train_end}
validation_end = {validation_end}
test_end = {test_end}
"""


def most_traded(prices: pd.DataFrame, before: str) -> list[str]:
    """Return the symbols with the most dollars traded in the year up to a day."""
    days = sorted(day for day in prices["date"].unique() if day <= before)[-YEAR:]
    year = prices[prices["date"].isin(days)]
    traded = (year["close"] * year["volume"]).groupby(year["symbol"]).sum()
    return list(traded.nlargest(MOST_TRADED).index)


def stored(folder: Path, file: Path, dates: Sequence[str]) -> Path:
    """Write the prices of the most traded stocks into a folder for `history`."""
    prices = pd.read_parquet(file)
    prices = prices.assign(date=prices["date"].astype(str)).query("date >= @dates[0]")
    chosen = most_traded(prices, before=dates[2])
    prices[prices["symbol"].isin(chosen)].to_parquet(folder / "prices.parquet")
    return folder


def history(folder: Path, target: str, dates: Sequence[str], adjustment: str) -> tuple[Run, History]:
    """Return a run with this target, and the history of the stored prices."""
    (folder / f"{target}.toml").write_text(settings(target, dates, adjustment))
    run, end = open_run(folder / f"{target}.toml", folder / "data", NOW), pd.Timestamp(dates[-1])
    if run.store.seq() == 0:
        first = run.calendar.sessions[0]
        answers = [run.source.fetch(symbol, first, end, NOW) for symbol in run.universe.symbols]
        prices = check(answers, run.calendar, end, source="files", historical=True).prices
        run.store.append(prices, run="test")
    return run, make_sequences.fn(run, end, run.store.seq())


@pytest.fixture(scope="module")
def nineties(datasets: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, History]:
    folder = tmp_path_factory.mktemp("nineties")
    stored(folder, datasets / "google30y" / "prices_1987_1999.parquet", NINETIES)
    return history(folder, "relative", NINETIES, "split")


@pytest.fixture(scope="module")
def twenty_tens(datasets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twenty-tens")
    return stored(folder, datasets / "av500" / "prices_to_2015.parquet", TWENTY_TENS)


def judged(run: Run, known: History) -> tuple[Verdict, dict[str, str]]:
    """Return the verdict, printed for docs/results.md, and the conclusion of each skill."""
    verdict, scores = verdict_of(run, known)
    own = scores.loc["gru"]
    print("", *verdict.sentences, own.loc["log_loss", ["n", "effective_n", "sessions"]].to_dict(), sep="\n")
    print(own.loc[["hit_rate", "log_loss", "auc_within_sessions", "rank_ic"], ["value", "low", "high"]])
    return verdict, {skill.name: skill.conclusion for skill in verdict.skills}


def test_picking_against_the_median_of_the_nineties_is_found(nineties: tuple[Run, History]) -> None:
    verdict, skills = judged(*nineties)
    assert skills == {"picking": "edge"}
    assert verdict.skills[0].low > 0.52


def test_labels_shuffled_inside_sessions_leave_nothing_to_pick(nineties: tuple[Run, History]) -> None:
    run, known = nineties
    verdict, skills = judged(run, shuffled(known))
    assert verdict.conclusion == "no edge found"
    assert skills == {"picking": "none"}


def shuffled(known: History) -> History:
    """Return the history whose labels are permuted among the stocks of each session."""
    s, rng = known.sequences, np.random.default_rng(0)
    y, returns = s.y.copy(), s.returns.copy()
    for session in range(len(s.sessions)):
        rows = np.flatnonzero(s.mask[:, session] & np.isfinite(s.returns[:, session, 0]))
        others = rng.permutation(rows)
        y[rows, session], returns[rows, session] = s.y[others, session], s.returns[others, session]
    return History(known.panel, replace(s, y=y, returns=returns), known.seq)


def test_picking_of_nights_is_found(twenty_tens: Path) -> None:
    verdict, skills = judged(*history(twenty_tens, "overnight_relative", TWENTY_TENS, "auto"))
    assert skills == {"picking": "edge"}
    assert verdict.skills[0].low > 0.52


def test_no_edge_is_found_in_the_direction_of_the_twenty_tens(twenty_tens: Path) -> None:
    verdict, skills = judged(*history(twenty_tens, "direction", TWENTY_TENS, "auto"))
    assert verdict.conclusion == "no edge found"
    assert skills["timing"] == "none"


def test_directions_shuffled_inside_sessions_leave_nothing_to_pick(twenty_tens: Path) -> None:
    run, known = history(twenty_tens, "direction", TWENTY_TENS, "auto")
    verdict, skills = judged(run, shuffled(known))
    assert verdict.conclusion == "no edge found"
    assert skills == {"timing": "none", "picking": "none"}
