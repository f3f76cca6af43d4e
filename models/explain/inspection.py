"""Run `diagnostics` on a fitted ensemble: on which rows, and over how many sessions of each.

Windowed, a row is read over its `lookback` sessions. In sequence mode the network starts from zero state a fixed number
of valid sessions before the row, as in `attribution`.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.ensembles.pooled import RecurrentEnsemble
from models.explain import diagnostics
from models.explain.attribution import LOOKBACKS, read_before
from models.explain.diagnostics import GradientNorm, Memory, describe_memory
from models.networks.recurrent import build
from models.windows import labelled_rows

__all__ = ["Inspection", "inspect"]

_FARTHEST: Final = 4
"""Number of lookbacks over which sensitivity is measured in sequence mode, where there is enough history."""
_SENSITIVITY_ROWS, _GRADIENT_ROWS, _IMPORTANCE_ROWS = 256, 1024, 2048


@dataclass(frozen=True)
class Inspection:
    """Diagnostics of a fitted ensemble.

    Attributes:
        sensitivity: float64 [member, lag, horizon], on rows of the calibrate range; see `measure_sensitivity`.
        memory: `describe_memory` of the members' mean sensitivity, one per horizon.
        gradients: On training rows, one per array of weights.
        importance: Increase of each judged row's log loss, float64 [feature, row, horizon].
        judged: The session numbers of those rows, int64 [row].
    """

    sensitivity: NDArray[np.float64]
    memory: list[Memory]
    gradients: list[GradientNorm]
    importance: NDArray[np.float64]
    judged: NDArray[np.int64]


@dataclass(frozen=True)
class _Panel:
    """A block of scaled features, with its mask and labels."""

    x: NDArray[np.float32]
    mask: NDArray[np.bool_]
    y: NDArray[np.float32]

    def sample(self, rows: NDArray[np.int32], most: int, seed: int) -> NDArray[np.int32]:
        if len(rows) <= most:
            return rows
        return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))

    def labels(self, rows: NDArray[np.int32]) -> NDArray[np.float32]:
        return np.asarray(self.y.reshape(-1, self.y.shape[-1])[rows])


def inspect(
    fitted: RecurrentEnsemble,
    x: NDArray[np.float32],
    mask: NDArray[np.bool_],
    y: NDArray[np.float32],
    *,
    train: range,
    calibrate: range,
    judge: range,
    seed: int,
) -> Inspection:
    """Measure sensitivity on rows of `calibrate`, gradients on `train`, importance on `judge`, all rows drawn by seed.

    Args:
        fitted: The ensemble.
        x: Unscaled features, float32 [symbol, session, feature].
        mask: [symbol, session], true where the row is valid.
        y: float32 [symbol, session, horizon] in {0, 1}; NaN where unknown.
        train: Session numbers that it was trained on.
        calibrate: Session numbers that it was calibrated on.
        judge: Session numbers not used in the fit, after the others.
        seed: Seed of the draws and permutations.

    Raises:
        ModelError: a range has no row with both history and label.
    """
    scaled = fitted.members.scaling.apply(x)
    panel, usable = _Panel(scaled, mask, y), fitted.members.usable(mask)
    core, weights = build(fitted.network, seed=0), fitted.members.weights

    def draw(
        sessions: range, name: str, most: int, lookbacks: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        rows = labelled_rows(usable, y, sessions, name)
        rows, length = _with_history(fitted, mask, rows, lookbacks)
        rows = panel.sample(rows, most, seed)
        return rows, read_before(scaled, mask, rows, length)

    _, windows = draw(calibrate, "calibrate", _SENSITIVITY_ROWS, _FARTHEST)
    sensitivity = diagnostics.measure_sensitivity(core, weights, windows)
    rows, windows = draw(train, "train", _GRADIENT_ROWS, LOOKBACKS)
    gradients = diagnostics.measure_gradient_norms(core, weights, windows, panel.labels(rows))
    rows, windows = draw(judge, "judge", _IMPORTANCE_ROWS, LOOKBACKS)
    importance = diagnostics.measure_importance(core, weights, windows, panel.labels(rows), seed=seed)
    memory = [describe_memory(norms, fitted.network.lookback) for norms in sensitivity.mean(axis=0).T]
    return Inspection(sensitivity, memory, gradients, importance, rows.astype(np.int64) % mask.shape[1])


def _with_history(
    fitted: RecurrentEnsemble, mask: NDArray[np.bool_], rows: NDArray[np.int32], lookbacks: int
) -> tuple[NDArray[np.int32], int]:
    """Return the rows with a history of `lookbacks` lookbacks, or of fewer if most rows have less, and its length."""
    lookback, behind = fitted.network.lookback, np.cumsum(mask, axis=1).reshape(-1)[rows]
    if fitted.network.mode == "windowed":
        return rows, lookback
    while lookbacks > 1 and np.mean(behind >= lookbacks * lookback) < 0.5:
        lookbacks -= 1
    return rows[behind >= lookbacks * lookback], lookbacks * lookback
