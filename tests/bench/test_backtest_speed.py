"""How long a walk through a large universe takes: three of its folds are done, the others by the cost of a label.

500 symbols x 5,000 sessions x 16 features, 20 fits of 5 members for 5 epochs each, GRU of 64 units, sequence mode,
expanding, with every baseline; beside it the hours of plain Keras, by its own labels a second in the same minutes.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import BacktestConfig, EvaluationConfig, TrainingConfig
from pipeline.features.sequences import Sequences
from pipeline.forecasting.folds import Fold, walk_folds
from tests.bench.market import DAYS
from tests.bench.trainers import CORES, Way
from tests.flows.training.test_ahead import MadeMarket
from tests.support.made_sequences import sequences_of

pytestmark = pytest.mark.bench

SYMBOLS, SESSIONS, FEATURES = 500, 5000, 16
MEMBERS, EPOCHS, REFITS = 5, 5, 20
MEASURED = (2, 7)
CHECKED = 11
"""Folds whose cost makes the line, and the one that is to lie on it, from 0."""


def market() -> Sequences:
    rng = np.random.default_rng(0)
    shape = SYMBOLS, SESSIONS
    x = rng.standard_normal((*shape, FEATURES), dtype=np.float32)
    y = (rng.random((*shape, 1)) < 0.5).astype(np.float32)
    names = tuple(f"S{number}" for number in range(SYMBOLS))
    features = tuple(f"f{number}" for number in range(FEATURES))
    return sequences_of(x, np.ones(shape, bool), y, names, DAYS.sessions[:SESSIONS], (1,), features)


def folds(known: Sequences) -> list[Fold]:
    """Return as many folds as were promised."""
    settings = BacktestConfig(train_sessions=756, refit_sessions=(SESSIONS - 756 - 504 - 10) // REFITS)
    made = walk_folds(known, EvaluationConfig(), TrainingConfig(), settings)
    return made[:REFITS]


def fold_runner(known: Sequences, executor: object, folder: Path) -> Callable[[Fold], float]:
    """Return what does a fold, and how many seconds it took."""
    from models.baselines import baselines
    from models.ensembles.pooled import RecurrentModel
    from models.networks.network import Network
    from models.training.trainer import Training
    from pipeline.forecasting.walk_forward import walk_forward

    network = RecurrentModel(
        Network("gru", FEATURES, 60, units=64, mode="sequence"),
        Training(epochs=EPOCHS, batch_size=64 * (252 - 59), learning_rate=1e-3, patience=EPOCHS),
        members=MEMBERS,
        executor=executor,  # type: ignore[arg-type]
        folder=folder,
    )
    models = {"gru": network, **baselines(0, 60, "sequence", [FEATURES - 1])}

    def run(fold: Fold) -> float:
        begun = time.perf_counter()
        walk_forward(
            models,
            known,
            [fold],
            DAYS,
            dead_zone=(0, 0),
            seed=1,
            progress=lambda name: None,
        )
        return time.perf_counter() - begun

    return run


def test_a_walk_of_twenty_fits() -> None:
    from models.training.process_pool import LocalWorkers

    known = market()
    every = folds(known)
    assert len(every) == REFITS
    labels = np.array([len(fold.train) * SYMBOLS for fold in every])
    with tempfile.TemporaryDirectory() as folder, LocalWorkers(CORES, Path(folder)) as workers:
        run = fold_runner(known, workers, Path(folder))
        run(every[0])  # compiles
        seconds = {number: run(every[number]) for number in (*MEASURED, CHECKED)}
    slope, start = np.polyfit(labels[list(MEASURED)], [seconds[number] for number in MEASURED], 1)
    by_line = start + slope * labels
    total = float(by_line.sum())
    print(f"\nfolds {', '.join(f'{n + 1}: {labels[n]:,} labels {s:.0f} s' for n, s in seconds.items())}")
    print(f"fold {CHECKED + 1} by the line of the other two: {by_line[CHECKED]:.0f} s")
    plain = Way("keras fit")
    plain.wait()
    rate = float(np.median([plain.lap() for _ in range(5)]))
    plain.end()
    hours = float(labels.sum()) * MEMBERS * EPOCHS / rate / 3600
    print(
        f"the walk of {REFITS} fits: {total / 60:.0f} minutes on {os.cpu_count()} cores, promised 45; plain Keras on "
        f"windows, training alone, at {rate:,.0f} labels a second: {hours:.1f} hours, {hours * 3600 / total:.0f} times"
    )
    assert by_line[CHECKED] == pytest.approx(seconds[CHECKED], rel=0.35)
    assert total <= 45 * 60


AHEAD = """
[model]
units = 32
lookback = 60
[training]
mode = "sequence"
epochs = 5
patience = 5
batch_size = 12352
[backtest]
train_sessions = 756
refit_sessions = 200
"""


def test_folds_that_are_trained_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five fits of five members, in turn and ahead, by the same processes; the laps take turns too."""
    from flows.training import walk_forward as walk
    from flows.training.compute import Compute
    from models.training.process_pool import LocalWorkers

    made, count_ahead, ratios = MadeMarket(tmp_path, AHEAD, symbols=40, sessions=2200), walk._count_ahead, []
    with LocalWorkers(CORES, tmp_path) as workers:

        def lap(*, is_ahead: bool) -> float:
            monkeypatch.setattr(walk, "_count_ahead", count_ahead if is_ahead else lambda *given: 0)
            begun = time.perf_counter()
            made.walk(Compute(workers, CORES, tmp_path))
            return time.perf_counter() - begun

        lap(is_ahead=False)  # compiles
        for number in range(5):
            seconds = {is_ahead: lap(is_ahead=is_ahead) for is_ahead in (number % 2 == 0, number % 2 == 1)}
            ratios.append(seconds[False] / seconds[True])
            print(
                f"\nin turn {seconds[False]:.0f} s, ahead {seconds[True]:.0f} s, load {os.getloadavg()[0]:.1f}"
            )
    ratio = statistics.median(ratios)
    print(f"ahead {ratio:.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f}), {os.cpu_count()} cores")
    assert ratio > 0.9
