"""The core type: dense features of a universe with their mask and labels."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.features.feature_sets import FeatureSet
from pipeline.features.panel import Panel
from pipeline.market.universe import Universe

__all__ = ["Sequences", "blank_dead_zone", "build_sequences", "label_returns", "total_returns"]


Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Sequences:
    """The data that a model is trained on and forecasts from.

    Attributes:
        x: float32 [symbol, session, feature], unscaled, 0 where masked; x[:, t] is computable at the close of t.
        mask: bool [symbol, session]; true where a member has a bar and every feature is finite.
        y: float32 [symbol, session, horizon] in {0, 1}, NaN where unknown; y[:, t, h] belongs to the session
            horizons[h] after t.
        symbols, sessions, horizons, features: The names of the axes.
    """

    x: NDArray[np.float32]
    mask: NDArray[np.bool_]
    y: NDArray[np.float32]
    symbols: tuple[str, ...]
    sessions: pd.DatetimeIndex
    horizons: tuple[int, ...]
    features: tuple[str, ...]

    def through(self, as_of: pd.Timestamp) -> "Sequences":
        """Return the sequences as of the close of `as_of`: without later sessions and without later labels."""
        stop = int((self.sessions <= as_of).sum())
        y = self.y[:, :stop].copy()
        for number, horizon in enumerate(self.horizons):
            y[:, max(stop - horizon, 0) :, number] = np.nan
        return replace(self, x=self.x[:, :stop], mask=self.mask[:, :stop], y=y, sessions=self.sessions[:stop])

    def since(self, first: pd.Timestamp) -> "Sequences":
        """Return the sequences from the session `first` on."""
        begin = int((self.sessions < first).sum())
        return replace(
            self,
            x=self.x[:, begin:],
            mask=self.mask[:, begin:],
            y=self.y[:, begin:],
            sessions=self.sessions[begin:],
        )


def total_returns(panel: Panel, horizon: int) -> NDArray[np.float64]:
    """Return the simple total return from each session to the one `horizon` later, [session, symbol].

    NaN where either session has no bar, or the later one did not trade, or lies after the panel.
    """
    level = np.where(panel.has_bar, panel.adj_close, np.nan)
    ahead = np.full_like(level, np.nan)
    if horizon < len(level):
        ahead[:-horizon] = np.where(panel.is_traded, level, np.nan)[horizon:]
    change = ahead / level - 1
    return np.where(np.abs(change) < _ROUNDING, 0.0, change)


_ROUNDING = 1e-12  # an unchanged close must have a return of exactly 0 after the adjustments


def build_sequences(
    panel: Panel, feature_set: FeatureSet, universe: Universe, horizons: tuple[int, ...]
) -> Sequences:
    """Compute the features, mask and labels of a panel.

    A label is the sign of the total return; an unchanged close and one without trades have none.
    """
    belongs = universe.membership(panel.sessions, panel.symbols).to_numpy()
    columns = feature_set.compute(panel, belongs)
    x = _to_batch_order([columns[name].to_numpy(np.float32) for name in feature_set.columns])
    mask = np.isfinite(x).all(axis=-1) & _to_batch_order([panel.has_bar & belongs])[..., 0]
    x[~mask] = 0.0
    return Sequences(
        x=x,
        mask=mask,
        y=_to_batch_order([_make_labels(total_returns(panel, horizon)) for horizon in horizons]),
        symbols=tuple(panel.symbols),
        sessions=panel.sessions,
        horizons=horizons,
        features=feature_set.columns,
    )


def label_returns(panel: Panel, horizons: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the simple total returns whose signs are the labels, [symbol, session, horizon]."""
    return _to_batch_order([total_returns(panel, horizon) for horizon in horizons])


def blank_dead_zone(
    y: NDArray[np.float32], returns: NDArray[np.float64], dead_zone: tuple[float, float], rows: range
) -> NDArray[np.float32]:
    """Return labels [symbol, session, horizon], NaN for small returns in the sessions of `rows`.

    Args:
        y: Labels.
        returns: The simple total returns of the labels, [symbol, session, horizon].
        dead_zone: (down, up): returns within [down, up] have no training label.
        rows: The sessions whose labels are masked; other sessions keep every label.
    """
    down, up = dead_zone
    inside = np.zeros(y.shape, dtype=bool)
    part = slice(rows.start, rows.stop)
    inside[:, part] = (returns[:, part] >= down) & (returns[:, part] <= up)
    return np.where(inside, np.float32(np.nan), y)


def _make_labels(returns: NDArray[np.float64]) -> NDArray[np.float32]:
    up = np.where(returns > 0, 1.0, 0.0)
    return np.where(np.isnan(returns) | (returns == 0), np.nan, up).astype(np.float32)


def _to_batch_order(columns: Iterable[NDArray[Number]]) -> NDArray[Number]:
    """Stack arrays [session, symbol] into the order of a model's batches, [symbol, session, column].

    The only place where the axes turn: every array before it is [session, symbol].
    """
    return np.stack([column.T for column in columns], axis=-1)
