"""A backtest of 2.5 million forecasts, 500 symbols x 5,000 tested sessions, by twelve methods that need no training.

Everything after the walk is nextday's own. Run as a process of its own: `python -m tests.bench.large_backtest FOLDER`.
"""

import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from prefect import Task

from flows import backtest
from flows.prices.update import PriceStatus
from flows.runtime.context import open_run
from flows.training import walk_forward
from flows.training.history import History
from models.training.futures import DeferredFuture
from models.training.trainer import Epoch
from pipeline.features.panel import Panel
from pipeline.prices.ingest.quality import no_findings
from pipeline.report.backtest_report import backtest_paths
from tests.bench.market import DAYS, names
from tests.conftest import NOW
from tests.support.made_sequences import sequences_of

SYMBOLS, SESSIONS = 500, 5856
SETTINGS = """
[universe]
name = "large"
symbols = ["^GSPC"]
[training]
stop_sessions = 126
calibrate_sessions = 126
processes = 1
[backtest]
train_sessions = 600
refit_sessions = 250
"""
METHODS = {
    "gru": 0, "logistic_regression": 0, "logistic_without_universe": 0, "gradient_boosting": 0,
    "last_sign": 2, "reversal": 2, "momentum": 2, "reversal_5": 2, "momentum_252_21": 2,
    "always_up": 1, "base_rate": 1,
}  # fmt: skip
"""How many different values each one says; 0: another one every time."""


@dataclass(frozen=True)
class AchievedCoverage:
    """What is said of a block."""

    p_up: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Method:
    """Says something without having learned anything; model and fit in one."""

    number: int
    values: int
    base_rate: np.ndarray
    threshold: np.ndarray
    history: tuple[Epoch, ...] = (Epoch(1, 1, 1, 1, 0.7, 0.5, 0.7, 0.5, 0.1),)
    left_out: tuple[int, ...] = ()
    start: int | None = None

    def fit(self, *arrays: Any, **ranges: Any) -> "Method":
        """Learn nothing."""
        return self

    def submit(self, *arrays: Any, **ranges: Any) -> DeferredFuture["Method"]:
        """Return a fit that is done."""
        return DeferredFuture(lambda: self, lambda: None)

    def may_start(self, train: range) -> bool:
        """Start nothing."""
        return False

    def first_session(self, row: int) -> int:
        """Return the first session that is read: the first that is forecast."""
        return row

    def predict(self, x: np.ndarray, mask: np.ndarray) -> AchievedCoverage:
        """Return values about the base rate."""
        rng = np.random.default_rng(self.number)
        noise = rng.standard_normal((*mask.shape, 1))
        if self.values:
            noise = np.zeros_like(noise) if self.values == 1 else np.sign(noise)
        p_up = 0.52 + 0.01 * noise
        return AchievedCoverage(p_up, p_up - 0.01, p_up + 0.01)


def method(name: str) -> Method:
    """Return the method of that name."""
    return Method([*METHODS].index(name), METHODS[name], np.array([0.52]), np.array([0.0]))


def market() -> History:
    """Return a market that all share and moves of their own, and one feature that nobody reads."""
    rng, days = np.random.default_rng(0), DAYS.sessions[:SESSIONS]
    moves = rng.normal(0.0003, 0.008, (SESSIONS, 1)) + rng.normal(0, 0.012, (SESSIONS, SYMBOLS))
    close = 50 * np.exp(np.cumsum(moves, axis=0))
    bars = {name: close * factor for name, factor in {"open": 0.999, "high": 1.01, "low": 0.99}.items()}
    volume, indices = np.full_like(close, 1e6), np.zeros(SYMBOLS, bool)
    symbols = names(SYMBOLS)
    panel = Panel(
        days, symbols, **bars, close=close, volume=volume, adj_close=close, last_close=close, is_index=indices
    )
    y = np.full((SYMBOLS, SESSIONS, 1), np.nan, np.float32)
    y[:, :-1, 0] = moves[1:].T > 0
    returns = np.full(y.shape, np.nan)
    returns[:, :-1, 0] = np.expm1(moves[1:].T)
    x, mask = np.zeros((SYMBOLS, SESSIONS, 1), np.float32), np.ones((SYMBOLS, SESSIONS), bool)
    return History(panel, sequences_of(x, mask, y, tuple(symbols), days, (1,), ("nothing",), returns), 1)


def untasked(module: Any) -> None:
    """Call the chapters of a module as they are, without Prefect; each still says how long it took."""
    for name, value in list(vars(module).items()):
        if isinstance(value, Task):
            setattr(module, name, value.fn)


def main(folder: Path) -> None:
    """Walk, then score, test, trade, write; print the seconds from the walk on."""
    imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (folder / "nextday.toml").write_text(SETTINGS)
    run, known = open_run(folder / "nextday.toml", folder / "data", NOW), market()
    for module in (backtest, walk_forward):
        untasked(module)
    ended = []

    def walk_and_tell(*arguments: Any) -> Any:
        walked = history(*arguments)
        ended.append(time.perf_counter())
        print(f"walked: {len(walked[1]):,} forecasts, {len(walked[0].test):,} rows", flush=True)
        return walked

    history, backtest.walk_history = backtest.walk_history, walk_and_tell  # type: ignore[assignment]
    walk_forward.make_recipe = lambda *_: method("gru")  # type: ignore[assignment]
    walk_forward.make_baselines = lambda *_: {name: method(name) for name in METHODS if name != "gru"}  # type: ignore
    as_of = known.sequences.sessions[-1]
    found = PriceStatus(as_of, 1, pd.Timestamp(NOW), {}, no_findings(), SYMBOLS, SYMBOLS)
    made = backtest._run_backtest(run, found, known)
    backtest._write(made, backtest_paths(folder / "out"))
    print(f"imports {imported:.0f} MB, from the walk on {time.perf_counter() - ended[0]:.1f} seconds")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
