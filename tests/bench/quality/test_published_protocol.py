"""87 US stocks by the protocol of Feng et al. (2019): settings are chosen on validation alone, then tested once.

The rows are those of arXiv:1810.09936 on the prices of Xu and Cohen (2018): targets from 2014-01-02 to 2015-07-31
teach, those to 2015-09-30 validate, those to 2015-12-31 test. For the choice the paper's validation is what is scored,
the two months before it stop and calibrate, and no later price is read.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pytest

from flows.runtime.context import Run
from flows.training.compute import Compute
from flows.training.history import make_sequences
from flows.training.model_factory import make_baselines, make_recipe
from models.training.process_pool import LocalWorkers
from pipeline.evaluation.data_snooping import session_losses
from pipeline.evaluation.verdict import best_baseline, judge
from pipeline.forecasting.folds import scoring_fold
from pipeline.forecasting.model import Fitted, Model
from pipeline.forecasting.walk_forward import walk_forward
from pipeline.statistics import metrics
from pipeline.statistics.bootstrap import percentile_interval, resample_sessions
from tests.bench.quality.stored_prices import open_stored

pytestmark = pytest.mark.bench

Ends = tuple[date, date, date]
TO_CHOOSE: Final = (date(2015, 5, 29), date(2015, 7, 31), date(2015, 9, 30))
TO_TEST: Final = (date(2015, 7, 31), date(2015, 9, 30), date(2015, 12, 31))
"""The last targets of train, of stop and calibrate, and of what is scored."""

FIRST: Final = pd.Timestamp(2014, 1, 2)
DEAD_ZONE: Final = (-0.005, 0.0055)
SEEDS: Final = (20, 25, 30, 35, 40)
"""Of the first of the five members of each repeat."""

REPEATS: Final = [f"repeat {seed}" for seed in SEEDS]
PUBLISHED: Final = 3720
"""Rows of the paper's test."""


@dataclass(frozen=True)
class Choice:
    """What validation chooses; everything else is as shipped."""

    features: str
    kind: str
    lookback: int
    units: int


GRID: Final = {
    features: [Choice(features, *rest) for rest in product(("gru", "lstm"), lookbacks, (16, 64))]
    for features, lookbacks in (("alstm11", (5, 10, 15)), ("default16", (5, 10, 20)))
}

CHOSEN: Final = {
    "alstm11": Choice("alstm11", "lstm", lookback=10, units=64),
    "default16": Choice("default16", "gru", lookback=5, units=16),
}
"""What `test_validation_chooses` finds; docs/results.md had it before the test was computed."""


@dataclass(frozen=True)
class Seeded:
    """A recipe whose seed is its own."""

    model: Model
    seed: int

    def fit(self, *arrays: Any, **ranges: Any) -> Fitted:
        """Fit it with that seed."""
        return self.model.fit(*arrays, **ranges | {"seed": self.seed})


@pytest.fixture(scope="module")
def prices(datasets: Path) -> Path:
    return datasets / "acl18" / "prices.parquet"


@pytest.fixture(scope="module")
def workshop() -> Iterator[Compute]:
    with LocalWorkers(2) as workers:
        yield Compute(workers)


def opened(folder: Path, prices: Path, choice: Choice) -> Run:
    settings = (
        f'[universe]\nname = "acl18"\nsource = "files"\nhistorical = true\npath = "{prices}"\n'
        f'[features]\nset = "{choice.features}"\n[labels]\ndead_zone = {list(DEAD_ZONE)}\n'
        f'[model]\nkind = "{choice.kind}"\nlookback = {choice.lookback}\nunits = {choice.units}\n'
        '[training]\nrefit = false\nsmooth_epochs = 1\n[calibration]\nmethod = "temperature"\n'
    )
    return open_stored(folder, settings, pd.Timestamp(TO_TEST[-1]))


def walk(run: Run, ends: Ends, workshop: Compute) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of the validation and of what is scored; the repeats are named by their seeds."""
    known, features = make_sequences.fn(run, pd.Timestamp(ends[-1]), run.store.seq()), run.feature_set()
    train_end, validation_end, test_end = ends
    dates = {"train_end": train_end, "validation_end": validation_end, "test_end": test_end}
    fold = scoring_fold(known.sequences, run.config.evaluation.model_copy(update=dates), run.config.training)
    first = int(known.sequences.sessions.searchsorted(FIRST)) - 1
    recipe = make_recipe(run, features, 1, lambda told: None, workshop)
    models: dict[str, Model] = {name: Seeded(recipe, seed) for name, seed in zip(REPEATS, SEEDS, strict=True)}
    made = walk_forward(
        models | make_baselines(run, features, known.sequences.outputs),
        known.sequences,
        [replace(fold, train=range(first, fold.train.stop))],
        run.calendar,
        dead_zone=DEAD_ZONE,
        seed=SEEDS[0],
        refit=False,
        progress=lambda name: None,
    )
    return made.before, made.test


@pytest.mark.parametrize("features", GRID)
def test_validation_chooses(features: str, prices: Path, workshop: Compute, tmp_path: Path) -> None:
    """Print what every setting loses on validation, five repeats of five members, beside the rules."""
    losses: dict[Choice, float] = {}
    for choice in GRID[features]:
        lost = session_losses(walk(opened(tmp_path, prices, choice), TO_CHOOSE, workshop)[1]).mean()
        losses[choice] = float(lost[REPEATS].mean())
        print(
            f"\n{choice}: {losses[choice]:.5f} ({lost[REPEATS].min():.5f} to {lost[REPEATS].max():.5f})",
            end="",
        )
    print(f"\nrules: {lost.drop(REPEATS).round(5).to_dict()}")
    assert min(losses, key=losses.__getitem__) == CHOSEN[features]


def cells_by_session(rows: pd.DataFrame, model: str) -> np.ndarray:
    """Return how often each side was told and came, [session, 4] as of `metrics.confusion`."""
    own = rows[rows["model"] == model]
    cells = metrics.confusion(own["p_up"].to_numpy(), own["outcome"].to_numpy())
    return pd.DataFrame(cells).groupby(own["target_session"].to_numpy()).sum().to_numpy()


def tell_figure(copies: np.ndarray, of: Callable[[np.ndarray], np.ndarray]) -> str:
    """Return a figure of all sessions and its 95% interval over copies of them."""
    value, (low, high) = float(of(np.ones((1, copies.shape[1])))[0]), percentile_interval(of(copies))
    return f"{value:.4f} [{low:.4f}, {high:.4f}]"


def tell_line(title: str, rows: pd.DataFrame, models: list[str]) -> None:
    """Print hit rate, MCC and log loss, each the mean over the models, with intervals by whole sessions."""
    cells = np.stack([cells_by_session(rows, model) for model in models])
    lost = session_losses(rows)[models].mean(axis=1).to_numpy()
    hits = metrics.hit_rate_of(cells).mean(axis=0)
    copies = resample_sessions(np.nan_to_num(hits, nan=0.5), draws=2000, seed=1)
    told = {
        "hit rate": lambda times: metrics.hit_rate_of(times @ cells).mean(axis=0),
        "MCC": lambda times: metrics.mcc_of(times @ cells).mean(axis=0),
        "log loss": lambda times: times @ lost / len(lost),
    }
    print(f"{title}: " + ", ".join(f"{name} {tell_figure(copies, of)}" for name, of in told.items()))
    if len(models) > 1:
        whole = cells.sum(axis=1)
        print(f"  each: hit rate {metrics.hit_rate_of(whole).round(4)}, MCC {metrics.mcc_of(whole).round(4)}")


@pytest.mark.parametrize("features", GRID)
def test_what_was_chosen_is_tested_once(
    features: str, prices: Path, workshop: Compute, tmp_path: Path
) -> None:
    """Print the table of docs/results.md: the mean of five repeats beside the rules, on the paper's rows and all."""
    before, scored = walk(opened(tmp_path, prices, CHOSEN[features]), TO_TEST, workshop)
    rules = [name for name in scored["model"].cat.categories if name not in REPEATS]
    baseline = best_baseline(before[before["model"].isin(rules)])
    told = scored.dropna(subset=["outcome"])
    moved = told[(told["realized_return"] < DEAD_ZONE[0]) | (told["realized_return"] > DEAD_ZONE[1])]
    for name, rows in {"all days": told, "large moves": moved}.items():
        print(f"\n{CHOSEN[features]}, {name}: n = {(rows['model'] == REPEATS[0]).sum()}")
        tell_line("five repeats", rows, REPEATS)
        for rule in rules:
            tell_line(rule, rows, [rule])
    losses = session_losses(told)
    saved = (losses[baseline] - losses[REPEATS].mean(axis=1)).to_numpy()
    low, high = percentile_interval(resample_sessions(saved, draws=2000, seed=1) @ saved / len(saved))
    print(f"saved against {baseline}, best before the test: {saved.mean():+.5f} [{low:+.5f}, {high:+.5f}]")
    for name in REPEATS:
        print(f"{name}: {judge(scored, model=name, baseline=baseline, seed=1).sentence}")
    assert (moved["model"] == REPEATS[0]).sum() == PUBLISHED
