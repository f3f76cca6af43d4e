"""What each part of the shipped recipe changes: log loss saved per session, in pairs, on the same rows.

The parts are the columns, the smoothed stop loss, the calibration by a slope with a prior, and the second fit, which
learns from all sessions before the test. Each is compared with what it replaced. What stands before 2010 is what
the recipe was chosen by; the sessions from 2010 to 2015 confirm it or do not. On planted signals nothing may be lost.

Every line that is printed is a trial: docs/recipe.md counts them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from flows.runtime.context import Run
from flows.training.compute import Compute
from flows.training.history import make_sequences
from flows.training.model_factory import make_baselines, make_recipe
from models.calibration.calibrator import Calibration, fit_calibrator
from models.ensembles.members import calibration_rows
from models.learners import LOGISTIC
from models.training.process_pool import LocalWorkers
from pipeline.features.feature_sets import FEATURE_SETS
from pipeline.features.sequences import Sequences
from pipeline.forecasting.folds import Fold, walk_folds
from pipeline.forecasting.forecast import forecast_packed
from pipeline.forecasting.model import fit
from pipeline.forecasting.walk_forward import mask_labels
from pipeline.outputs import Output
from pipeline.statistics import metrics
from pipeline.statistics.bootstrap import percentile_interval, resample_sessions
from tests.bench.quality.stored_prices import open_stored
from tests.bench.quality.test_training_quality import echoed, planted, repeated

pytestmark = pytest.mark.bench

Floats = NDArray[np.float64]
CONFIRMED_FROM: Final = pd.Timestamp(2010, 1, 1)


@dataclass(frozen=True)
class Panel:
    """Real prices and how they are walked through; the stocks are those with the most dollars traded at the start.

    Attributes:
        file: Below the datasets; empty: the sample.
        stocks: How many.
        refit_sessions: Between two fits.
        ranges: Further settings: the ranges of the walk.
        until: The last session that is read.
    """

    file: str
    stocks: int
    refit_sessions: int
    ranges: str = ""
    until: str = "2015-12-31"


ROLLING: Final = 'window = "rolling"\ntrain_sessions = 252\n'
SHORT: Final = "stop_sessions = 42\ncalibrate_sessions = 42\n"
PANELS: Final = {
    "sample": Panel("", 2, 756),
    # The sessions from October 2015 on are kept for the published protocol: docs/results.md.
    "acl18": Panel("acl18/prices.parquet", 87, 63, ROLLING, until="2015-09-30"),
    "sp500": Panel("sp500/prices.parquet", 495, 63, ROLLING),
    "av500": Panel("av500/prices_to_2015.parquet", 100, 756),
    "google30y": Panel("google30y/prices_1987_1999.parquet", 100, 756),
    "av500, 20 stocks": Panel("av500/prices_to_2015.parquet", 20, 756),
    "google30y, 20 stocks": Panel("google30y/prices_1987_1999.parquet", 20, 756),
}
CASES: Final[list[tuple[str, str, str]]] = [
    ("sample", "direction", "windowed"),
    ("sample", "direction", "sequence"),
    ("acl18", "direction", "windowed"),
    ("acl18", "direction", "sequence"),
    ("acl18", "relative", "sequence"),
    ("sp500", "direction", "sequence"),
    ("sp500", "relative", "sequence"),
    ("google30y", "direction", "sequence"),
    ("google30y", "relative", "sequence"),
    ("google30y, 20 stocks", "direction", "windowed"),
    ("av500", "direction", "sequence"),
    ("av500", "relative", "sequence"),
    ("av500, 20 stocks", "direction", "windowed"),
]


@pytest.fixture(scope="module")
def workshop() -> Iterator[Compute]:
    with LocalWorkers(2) as workers:
        yield Compute(workers)


def opened(folder: Path, panel: Panel, mode: str, datasets: Path) -> Run:
    """Return a run whose store holds the panel's stocks."""
    lines = ["[universe]", 'name = "judged"']
    if panel.file:
        prices = pd.read_parquet(datasets / panel.file)
        prices[prices["symbol"].isin(most_traded(prices, panel.stocks))].to_parquet(folder / "prices.parquet")
        lines += ['source = "files"', "historical = true", 'path = "prices.parquet"']
    if "google30y" in panel.file:
        lines += ["[prices]", "start = 1987-01-01", 'adjustment = "split"']
    size = 4096 if mode == "sequence" else 256
    lines += ["[model]", "members = 2", "[training]", f'mode = "{mode}"', f"batch_size = {size}"]
    lines += [SHORT if panel.ranges else "", "[backtest]", f"refit_sessions = {panel.refit_sessions}"]
    return open_stored(folder, "\n".join([*lines, panel.ranges]) + "\n", pd.Timestamp(panel.until))


def most_traded(prices: pd.DataFrame, stocks: int) -> list[str]:
    """Return the symbols with the most dollars traded in the first two years that have nearly all their bars."""
    days = sorted(prices["date"].unique())[:504]
    start = prices[prices["date"].isin(days)]
    traded = (start["close"] * start["volume"]).groupby(start["symbol"]).agg(["sum", "size"])
    return list(traded[traded["size"] >= 0.9 * len(days)]["sum"].nlargest(stocks).index)


class Forecasts:
    """The probabilities that each way to forecast gave on the test rows."""

    def __init__(self, sequences: Sequences, run: Run) -> None:
        self._sequences, self._run = sequences, run
        self._p_up: dict[str, Floats] = {}

    def add(self, name: str, fitted: Any, sequences: Sequences, fold: Fold) -> None:
        """Forecast the test of a fold."""
        rows = forecast_packed(fitted, sequences, fold.test, self._run.calendar)
        block = self._p_up.setdefault(name, np.full(self._sequences.y.shape[:2], np.nan))
        session = self._sequences.sessions.get_indexer(pd.DatetimeIndex(rows["as_of"]))
        block[rows["symbol"].cat.codes.to_numpy(), session] = rows["p_up"].to_numpy()

    def losses(self) -> pd.DataFrame:
        """Return the mean log loss of each session [session, way] on the rows that every way forecast."""
        y = self._sequences.y[:, :, 0]
        shared = np.isfinite(y) & np.all([np.isfinite(p) for p in self._p_up.values()], axis=0)
        count = shared.sum(axis=0)
        lost = {
            name: np.where(shared, metrics.log_losses(p, y), 0).sum(axis=0) / np.maximum(count, 1)
            for name, p in self._p_up.items()
        }
        print(f"n = {count.sum():,} forecasts of {np.count_nonzero(count):,} sessions")
        return pd.DataFrame(lost, self._sequences.sessions)[count > 0]


def calibrated(ensemble: Any, sequences: Sequences, fold: Fold, method: Any) -> Any:
    """Return the ensemble of the first fit, calibrated in another way on the same rows."""
    inputs = mask_labels(sequences, fold, (0, 0), refit=False).sequences
    rows = calibration_rows(
        ensemble.members, inputs.x, inputs.mask, inputs.y, fold.calibrate, ensemble.start or 0
    )
    logits, labels, sessions = rows
    made = fit_calibrator(logits.mean(axis=0), labels, ensemble.base_rate, sessions, Calibration(method))
    return replace(ensemble, calibrator=made)


def fit_networks(
    run: Run, columns: str, s: Sequences, fold: Fold, workshop: Compute, into: Forecasts
) -> None:
    """Fit the network by the former rule and by the recipe, and forecast with each part changed alone."""
    shipped = make_recipe(run, FEATURE_SETS[columns], 1, lambda told: None, workshop)
    training: Any = shipped.training  # type: ignore[attr-defined]
    former = replace(
        shipped, training=replace(training, smooth_epochs=1), calibration=Calibration("temperature")
    )  # type: ignore[type-var]
    seed = run.config.training.seed
    first = fit(former, mask_labels(s, fold, (0, 0), refit=False), fold, seed)
    into.add(f"{columns}: best epoch, temperature", first, s, fold)
    into.add(f"{columns}: best epoch, bayes", calibrated(first, s, fold, "bayes"), s, fold)
    second = fit(shipped, mask_labels(s, fold, (0, 0), refit=True), fold, seed)
    into.add(f"{columns}: smoothed, bayes", second.held_out, s, fold)
    into.add(f"{columns}: recipe", second, s, fold)


def fit_baselines(run: Run, columns: str, s: Sequences, fold: Fold, into: Forecasts) -> None:
    """Fit the baselines once and twice, and logistic regression with the penalty that it had once."""
    made = make_baselines(run, FEATURE_SETS[columns], s.outputs)
    weak = replace(made["logistic_regression"], learn=partial(LOGISTIC.learn, 0.01))
    names = ("base_rate", "logistic_regression", "gradient_boosting", "range_reversal")
    for name, baseline in {**{name: made[name] for name in names}, "logistic, C = 0.01": weak}.items():
        fitted = fit(baseline, mask_labels(s, fold, (0, 0), refit=True), fold, run.config.training.seed)
        into.add(f"{columns}: {name}", fitted, s, fold)
        into.add(f"{columns}: {name}, first fit", fitted.held_out, s, fold)


def pairs(own: str) -> Iterator[tuple[str, str, str]]:
    """Yield what is compared: a title, the new way and the one that it replaced."""
    former = "default16: best epoch, temperature"
    yield "base rate: the recipe", f"{own}: recipe", f"{own}: base_rate"
    yield "base rate: logistic regression", f"{own}: logistic_regression", f"{own}: base_rate"
    yield "base rate: gradient boosting", f"{own}: gradient_boosting", f"{own}: base_rate"
    yield "base rate: range_reversal", f"{own}: range_reversal", f"{own}: base_rate"
    yield "logistic regression: the recipe", f"{own}: recipe", f"{own}: logistic_regression"
    yield "gradient boosting: the recipe", f"{own}: recipe", f"{own}: gradient_boosting"
    yield "columns: new instead of default16", f"{own}: recipe", "default16: recipe"
    if own != "own":
        yield f"columns: {own} instead of own", f"{own}: recipe", "own: recipe"
    yield "stop: smoothed", f"{own}: smoothed, bayes", f"{own}: best epoch, bayes"
    yield "calibration: bayes", f"{own}: best epoch, bayes", f"{own}: best epoch, temperature"
    yield "calibration: bayes, default16", "default16: best epoch, bayes", former
    yield "second fit", f"{own}: recipe", f"{own}: smoothed, bayes"
    for name in ("logistic_regression", "gradient_boosting"):
        yield f"second fit: {name}", f"{own}: {name}", f"{own}: {name}, first fit"
    yield "penalty: chosen, not C = 0.01", f"{own}: logistic_regression", f"{own}: logistic, C = 0.01"
    yield "all: the recipe, not the former rule", f"{own}: recipe", former


def tell(losses: pd.DataFrame, title: str, new: str, old: str) -> float:
    """Print what the new way saves, before 2010 and after it; return the upper end of all sessions' interval."""
    saved = losses[old] - losses[new]
    parts = {"all": saved, "before 2010": saved[: CONFIRMED_FROM - pd.Timedelta(days=1)]}
    parts["from 2010"] = saved[CONFIRMED_FROM:]
    told, upper = [], np.inf
    for name, part in parts.items():
        if part.empty:
            continue
        values = part.to_numpy()
        low, high = percentile_interval(resample_sessions(values, draws=2000, seed=1) @ values / len(values))
        upper = min(upper, high) if name == "all" else upper
        told.append(f"{name} {values.mean() * 1e4:+.1f} [{low * 1e4:+.1f}, {high * 1e4:+.1f}]")
    print(f"| {title} | " + " | ".join(told) + " |", flush=True)
    return upper


@pytest.mark.parametrize(("name", "target", "mode"), CASES, ids=lambda part: str(part).replace(" ", "-"))
def test_on_real_prices(
    name: str, target: str, mode: str, datasets: Path, tmp_path: Path, workshop: Compute
) -> None:
    """Print every pair in units of 0.0001; the recipe must not lose against the base rate beyond chance."""
    run = opened(tmp_path, PANELS[name], mode, datasets)
    outputs, own = (Output(target, 1),), "own" if target == "direction" else "relative"
    end = run.store.latest("session", pd.Timestamp(PANELS[name].until), symbols=run.universe.symbols)
    assert end is not None
    made = {
        columns: make_sequences.fn(run, end, run.store.seq(), FEATURE_SETS[columns], None, outputs).sequences
        for columns in dict.fromkeys(("default16", "own", own))
    }
    folds = walk_folds(made[own], run.config.evaluation, run.config.training, run.config.backtest)
    forecasts = Forecasts(made[own], run)
    for fold in folds:
        for columns, sequences in made.items():
            fit_networks(run, columns, sequences, fold, workshop, forecasts)
        fit_baselines(run, own, made[own], fold, forecasts)
    print(f"\n{name}, {target}, {mode}: {len(made[own].symbols)} symbols, {len(folds)} fits, ", end="")
    losses = forecasts.losses()
    print(f"from {losses.index[0]:%Y-%m-%d} to {losses.index[-1]:%Y-%m-%d}; 0.0001 saved per session")
    upper = {title: tell(losses, title, new, old) for title, new, old in pairs(own)}
    assert upper["base rate: the recipe"] >= 0


SIGNALS: Final = {"sign": repeated, "echo": echoed, "noise": lambda rng: np.sign(rng.normal(size=(40, 1200)))}


@pytest.mark.parametrize("mode", ["windowed", "sequence"])
@pytest.mark.parametrize("signal", SIGNALS)
def test_on_planted_signals(
    signal: str, mode: str, datasets: Path, tmp_path: Path, workshop: Compute
) -> None:
    """Print what the recipe and the former rule lose on signals whose strength is known, and on noise.

    What the recipe does not find of a strong signal is a small part of what the former rule found.
    """
    case = planted(SIGNALS[signal], lookback=20, patience=10)
    run = opened(tmp_path, PANELS["sample"], mode, datasets)
    forecasts, s, fold = Forecasts(case.sequences, run), case.sequences, case.fold
    seed = run.config.training.seed
    shipped: Any = make_recipe(run, FEATURE_SETS["own"], 1, lambda told: None, workshop)
    shipped = replace(
        shipped,
        network=replace(shipped.network, features=2),
        training=replace(
            shipped.training,
            learning_rate=case.learning_rate,
            epochs=case.epochs,
            patience=case.patience,
            batch_size=256,
        ),
    )
    former = replace(
        shipped,
        training=replace(shipped.training, smooth_epochs=1),
        calibration=Calibration("temperature"),
    )
    first = fit(former, mask_labels(s, fold, (0, 0), refit=False), fold, seed)
    second = fit(shipped, mask_labels(s, fold, (0, 0), refit=True), fold, seed)
    forecasts.add("former", first, s, fold)
    forecasts.add("smoothed, bayes", second.held_out, s, fold)
    forecasts.add("recipe", second, s, fold)
    print(f"\n{signal}, {mode}: ", end="")
    losses = forecasts.losses()
    print(losses.mean().round(4).to_dict())
    tell(losses, "stop and calibration", "smoothed, bayes", "former")
    tell(losses, "second fit", "recipe", "smoothed, bayes")
    tell(losses, "all: the recipe, not the former rule", "recipe", "former")
    found = np.log(2) - losses.mean()
    assert found["recipe"] >= 0.9 * found["former"] - 2e-4
