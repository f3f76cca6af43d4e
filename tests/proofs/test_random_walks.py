"""Ten universes of random walks through the whole procedure: where there is nothing to find, nothing is found."""

from pathlib import Path

import numpy as np
import pytest

from flows.training.compute import open_compute
from flows.training.scoring import score_procedure
from flows.training.walk_forward import BEST_BEFORE, walk_history
from pipeline.evaluation.verdict import Verdict
from pipeline.forecasting.folds import walk_folds
from pipeline.market.calendar import Calendar
from tests.flows.training.test_planted import history_of

pytestmark = [pytest.mark.slow, pytest.mark.proof]

UNIVERSES, SYMBOLS, SESSIONS = 10, 12, 1600
SETTINGS = """
[universe]
name = "walks"
source = "files"
path = "prices.parquet"
historical = true
[training]
mode = "sequence"
learning_rate = 0.003
stop_sessions = 126
calibrate_sessions = 126
"""


def random_walks(seed: int) -> np.ndarray:
    """Return closes [session, symbol]: a market that all share, moves of their own, days of calm and of storm."""
    rng = np.random.default_rng([11, seed])
    calm = np.exp(np.convolve(rng.normal(0, 0.3, SESSIONS + 20), np.ones(21) / 4, "valid"))[:, None]
    moves = 0.008 * rng.standard_t(5, (SESSIONS, 1)) + 0.012 * rng.standard_t(5, (SESSIONS, SYMBOLS))
    return 100 * np.exp(np.cumsum(0.0003 + calm * moves, axis=0))


def walk_through(folder: Path, xnys: Calendar, seed: int) -> Verdict:
    """Return what a backtest finds in such a universe."""
    run, known = history_of(folder, xnys, random_walks(seed), SETTINGS)
    settings = run.config
    folds = walk_folds(known.sequences, settings.evaluation, settings.training, settings.backtest)
    with open_compute(run, known.sequences) as workshop:
        walk, *_ = walk_history.fn(run, known, folds, workshop)
    return score_procedure.fn(run, walk, BEST_BEFORE)[1]


def test_in_ten_universes_of_random_walks_an_edge_is_found_once_at_most(
    tmp_path: Path, xnys: Calendar
) -> None:
    verdicts = []
    for seed in range(UNIVERSES):
        (tmp_path / str(seed)).mkdir()
        verdicts.append(walk_through(tmp_path / str(seed), xnys, seed))
        print(verdicts[-1].sentence)
    findings = [verdict.conclusion for verdict in verdicts]
    assert "not enough data" not in findings
    assert findings.count("edge") <= 1, findings
