"""Attribute forecasts to the sessions and features that a network read, by integrated gradients.

Windowed, a row is read over its `lookback` sessions. In sequence mode a forecast runs over the symbol's whole history;
here the network starts from zero state a fixed number of valid sessions before the row, because an attribution needs
a finite window. The difference can be seen: `Explanation.whole` is the logit of the forecast itself.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.networks.network import Network
from models.serving.ensemble import ServedEnsemble
from models.serving.network import ServedNetwork
from models.serving.panel import batches
from models.windows import closed_up

__all__ = ["LOOKBACKS", "TOLERANCE", "Attribution", "Explanation", "attribute", "explain", "read_before"]

LOOKBACKS: Final = 2
"""Number of lookbacks over which a forecast is attributed in sequence mode, where there is enough history."""
TOLERANCE: Final = 1e-3
"""Largest error of the sum of a row's attributions, as a logit."""

_NODES: Final = 6
_MAX_PIECES: Final = 32


@dataclass(frozen=True)
class Attribution:
    """Contributions of the inputs to the members' mean logit, relative to its value for mean inputs.

    Attributes:
        values: Integrated gradients, float32 [row, lag, feature, horizon]; over lags and features they sum to
            logit - baseline.
        logit: Mean logit of the members, float64 [row, horizon].
        baseline: Their mean logit for inputs at the training mean, float64 [horizon].
        gap: Absolute error of that sum, at the worst horizon, float64 [row].
    """

    values: NDArray[np.float32]
    logit: NDArray[np.float64]
    baseline: NDArray[np.float64]
    gap: NDArray[np.float64]

    @property
    def adds_up(self) -> NDArray[np.bool_]:
        """The rows whose values explain their logit within TOLERANCE, [row]."""
        return self.gap <= TOLERANCE


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


def explain(
    served: ServedEnsemble, x: NDArray[np.float32], mask: NDArray[np.bool_], rows: NDArray[np.int32]
) -> Explanation:
    """Attribute the logits of usable rows to the sessions and features of their inputs.

    Args:
        served: The ensemble.
        x: Unscaled features, float32 [symbol, session, feature], from the session at which the ensemble starts.
        mask: [symbol, session], true where the row is valid.
        rows: Flat numbers of rows that can be forecast, ascending.
    """
    whole = served.logits(x, mask, rows).mean(axis=0)
    sessions, scaled = _lengths(served.network, mask, rows), served.scaling.apply(x)
    features, horizons = x.shape[-1], served.network.horizons
    values = np.zeros((len(rows), int(sessions.max(initial=0)), features, horizons), np.float32)
    logit, baseline, gap = np.empty_like(whole), np.empty_like(whole), np.empty(len(rows))
    for length in np.unique(sessions).tolist():
        some = sessions == length
        found = attribute(served.members, read_before(scaled, mask, rows[some], length))
        values[some, :length], logit[some], gap[some] = found.values, found.logit, found.gap
        baseline[some] = found.baseline
    mean = Attribution(values, logit, baseline.mean(axis=0), gap)
    return Explanation(mean, baseline, whole, sessions)


def attribute(members: ServedNetwork, x: NDArray[np.float32]) -> Attribution:
    """Attribute each row's logit to its inputs by integrated gradients (Sundararajan, Taly and Yan 2017).

    The baseline is the training mean, zero in scaled units, at every session; the value of an input is that input
    times the mean gradient along the straight line from the baseline. The line integral is a Gauss-Legendre sum over
    one piece of the line. A row whose values do not add up to its difference of logits ("completeness") gets twice the
    pieces until they do, or until there are 32: then `adds_up` is false for it.

    Args:
        members: The network, with the weights of each member.
        x: Windows [row, time, feature] of scaled inputs; lag k is the session k before the last one.
    """
    logits = _last_logits(members, np.concatenate([x, np.zeros_like(x[:1])]))
    values = np.empty((*x.shape, logits.shape[-1]), np.float32)
    gap, pieces = np.full(logits[:-1].shape, np.inf), 1
    while (open_rows := np.flatnonzero(gap.max(axis=1) > TOLERANCE)).size and pieces <= _MAX_PIECES:
        for part in batches(members, len(open_rows), x.shape[1] * pieces * _NODES):
            row = open_rows[part]
            values[row] = _integrate(members, x[row], pieces)[:, ::-1]
        gap = np.abs(values.sum(axis=(1, 2), dtype=np.float64) - (logits[:-1] - logits[-1]))
        pieces *= 2
    return Attribution(values, logits[:-1], logits[-1], gap.max(axis=1))


def read_before(
    x: NDArray[np.float32], mask: NDArray[np.bool_], rows: NDArray[np.int32], length: int
) -> NDArray[np.float32]:
    """Return the last `length` valid sessions up to each row, [row, length, feature]; every row must have as many."""
    order, place = closed_up(mask), (np.cumsum(mask) - 1)[rows]
    return np.asarray(x.reshape(-1, x.shape[-1])[order[place[:, None] + np.arange(1 - length, 1)]])


def _last_logits(members: ServedNetwork, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the members' mean logit of the last session, [row, horizon]."""
    parts = [members.logits(x[part]) for part in batches(members, len(x), x.shape[1])]
    logits = np.concatenate(parts, axis=1).mean(axis=0)
    return np.asarray(logits if logits.ndim == 2 else logits[:, -1])


def _integrate(members: ServedNetwork, x: NDArray[np.float32], pieces: int) -> NDArray[np.float64]:
    """Return x times the mean gradient between zero and x, [row, time, feature, horizon]."""
    nodes, shares = np.polynomial.legendre.leggauss(_NODES)
    places = ((np.arange(pieces)[:, None] + (nodes + 1) / 2) / pieces).reshape(-1)
    line = (places[:, None, None, None] * x).reshape(-1, *x.shape[1:])
    by_place = members.gradients(line).reshape(len(places), *x.shape, -1)
    mean = np.tensordot(np.tile(shares / 2 / pieces, pieces), by_place, axes=1)
    return np.asarray(x[..., None] * mean)


def _lengths(network: Network, mask: NDArray[np.bool_], rows: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the number of sessions over which each row is explained."""
    if network.mode == "windowed":
        return np.full(len(rows), network.lookback)
    has_more = np.cumsum(mask, axis=1).reshape(-1)[rows] >= LOOKBACKS * network.lookback
    return np.where(has_more, LOOKBACKS * network.lookback, network.lookback)
