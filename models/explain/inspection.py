"""Run `diagnostics` on a fitted ensemble: on which rows, and over how many sessions of each.

Windowed, a row is read over its `lookback` sessions. In sequence mode a forecast runs over the symbol's whole history;
here the network starts from zero state a fixed number of valid sessions before the row, because an attribution needs
a finite window. The difference can be seen: `Explanation.whole` is the logit of the forecast itself.
"""

from dataclasses import dataclass
from typing import Final

import keras
import numpy as np
from numpy.typing import NDArray

from models.ensembles.pooled import RecurrentEnsemble
from models.explain import diagnostics
from models.explain.diagnostics import Attribution, GradientNorm, Memory, attribute, describe_memory
from models.networks.recurrent import build
from models.scaling import Scaling
from models.windows import closed_up, labelled_rows

__all__ = ["Explanation", "Inspection", "explain", "inspect", "read_before", "read_scaling"]

_FARTHEST: Final = 4
"""Number of lookbacks over which sensitivity is measured in sequence mode, where there is enough history."""
_EXPLAINED: Final = 2
"""Number of lookbacks over which a forecast is attributed in sequence mode, where there is enough history."""
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
class Explanation:
    """Attributions of forecasts to their inputs.

    Attributes:
        attribution: Over the last sessions of each row; zero at lags beyond a row's window.
        baseline: float64 [row, horizon], the logit of mean inputs over as many sessions.
        whole: float64 [row, horizon], the members' mean logit in the forecast itself.
        sessions: Length of each row's window, in sessions, int64 [row].
    """

    attribution: Attribution
    baseline: NDArray[np.float64]
    whole: NDArray[np.float64]
    sessions: NDArray[np.int64]


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
    scaled = read_scaling(fitted.members.model).apply(x)
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
    rows, windows = draw(train, "train", _GRADIENT_ROWS, _EXPLAINED)
    gradients = diagnostics.measure_gradient_norms(core, weights, windows, panel.labels(rows))
    rows, windows = draw(judge, "judge", _IMPORTANCE_ROWS, _EXPLAINED)
    importance = diagnostics.measure_importance(core, weights, windows, panel.labels(rows), seed=seed)
    memory = [describe_memory(norms, fitted.network.lookback) for norms in sensitivity.mean(axis=0).T]
    return Inspection(sensitivity, memory, gradients, importance, rows.astype(np.int64) % mask.shape[1])


def explain(
    fitted: RecurrentEnsemble, x: NDArray[np.float32], mask: NDArray[np.bool_], rows: NDArray[np.int32]
) -> Explanation:
    """Attribute the logits of usable rows to the sessions and features of their inputs.

    Args:
        fitted: The ensemble.
        x: Unscaled features, float32 [symbol, session, feature], from the session at which the ensemble starts.
        mask: [symbol, session], true where the row is valid.
        rows: Flat numbers of rows that can be forecast, ascending.
    """
    whole = fitted.members.logits(x, mask, rows).mean(axis=0, dtype=np.float64)
    sessions = _lengths(fitted, mask, rows)
    scaled, core = read_scaling(fitted.members.model).apply(x), build(fitted.network, seed=0)
    features, horizons = x.shape[-1], fitted.network.horizons
    values = np.zeros((len(rows), int(sessions.max(initial=0)), features, horizons), np.float32)
    logit, baseline, gap = np.empty_like(whole), np.empty_like(whole), np.empty(len(rows))
    for length in np.unique(sessions).tolist():
        some = sessions == length
        found = attribute(core, fitted.members.weights, read_before(scaled, mask, rows[some], length))
        values[some, :length], logit[some], gap[some] = found.values, found.logit, found.gap
        baseline[some] = found.baseline
    mean = Attribution(values, logit, baseline.mean(axis=0), gap)
    return Explanation(mean, baseline, whole, sessions)


def read_before(
    x: NDArray[np.float32], mask: NDArray[np.bool_], rows: NDArray[np.int32], length: int
) -> NDArray[np.float32]:
    """Return the last `length` valid sessions up to each row, [row, length, feature]; every row must have as many."""
    order, place = closed_up(mask), (np.cumsum(mask) - 1)[rows]
    return np.asarray(x.reshape(-1, x.shape[-1])[order[place[:, None] + np.arange(1 - length, 1)]])


def read_scaling(deployable: keras.Model) -> Scaling:
    """Return the input scale of a network of `recurrent.build_deployable`."""
    layer = deployable.get_layer("scale")
    return Scaling(*(np.asarray(part, np.float32).reshape(-1) for part in (layer.mean, layer.variance)))


def _lengths(
    fitted: RecurrentEnsemble, mask: NDArray[np.bool_], rows: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Return the number of sessions over which each row is explained."""
    lookback = fitted.network.lookback
    if fitted.network.mode == "windowed":
        return np.full(len(rows), lookback)
    has_more = np.cumsum(mask, axis=1).reshape(-1)[rows] >= _EXPLAINED * lookback
    return np.where(has_more, _EXPLAINED * lookback, lookback)


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
