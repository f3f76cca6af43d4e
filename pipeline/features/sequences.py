"""The core type: dense features of a universe with their mask and labels."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.features.columns import FeatureSet
from pipeline.features.panel import Panel
from pipeline.features.targets import label_returns, may_be_asked
from pipeline.market.universe import Universe
from pipeline.outputs import Output

__all__ = ["Sequences", "blank_dead_zone", "build_sequences", "make_labels"]


Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Sequences:
    """The data that a model is trained on and forecasts from.

    Attributes:
        x: float32 [symbol, session, feature], unscaled, 0 where masked; x[:, t] is computable at the close of t.
        mask: bool [symbol, session]; true where a member has a bar and every feature is finite.
        y: float32 [symbol, session, output] in {0, 1}, NaN where unknown; y[:, t, o] belongs to the session
            outputs[o].horizon after t.
        returns: Returns whose signs are the labels, [symbol, session, output]: simple total returns, of a relative
            target less the members' median; NaN where unknown.
        asked: bool [symbol, session, output]; false where an output is not forecast: overnight and intraday of a
            symbol without real opens, relative ones with too few members.
        symbols, sessions, outputs, features: The names of the axes.
    """

    x: NDArray[np.float32]
    mask: NDArray[np.bool_]
    y: NDArray[np.float32]
    returns: NDArray[np.float64]
    asked: NDArray[np.bool_]
    symbols: tuple[str, ...]
    sessions: pd.DatetimeIndex
    outputs: tuple[Output, ...]
    features: tuple[str, ...]

    @property
    def horizons(self) -> tuple[int, ...]:
        """How many sessions ahead each output lies."""
        return tuple(output.horizon for output in self.outputs)

    def outputs_of(self, rows: pd.DataFrame) -> NDArray[np.intp]:
        """Return the place of each row's output; -1 where it is none of them."""
        found = np.full(len(rows), -1, np.intp)
        for place, output in enumerate(self.outputs):
            is_it = (rows["horizon"] == output.horizon) & (rows["target"] == output.target)
            found[is_it.to_numpy()] = place
        return found

    def through(self, as_of: pd.Timestamp) -> "Sequences":
        """Return the sequences as of the close of `as_of`: without later sessions and without later labels."""
        stop = int((self.sessions <= as_of).sum())
        y, returns = self.y[:, :stop].copy(), self.returns[:, :stop].copy()
        for number, horizon in enumerate(self.horizons):
            y[:, max(stop - horizon, 0) :, number] = np.nan
            returns[:, max(stop - horizon, 0) :, number] = np.nan
        return replace(self._part(slice(stop)), y=y, returns=returns)

    def since(self, first: pd.Timestamp) -> "Sequences":
        """Return the sequences from the session `first` on."""
        return self._part(slice(int((self.sessions < first).sum()), None))

    def with_outputs(self, places: Iterable[int]) -> "Sequences":
        """Return the sequences with some of the outputs."""
        kept = list(places)
        return replace(
            self,
            y=self.y[..., kept],
            returns=self.returns[..., kept],
            asked=self.asked[..., kept],
            outputs=tuple(self.outputs[place] for place in kept),
        )

    @property
    def learnable(self) -> list[int]:
        """The places of the outputs of which some valid row has a label."""
        return [
            place for place in range(len(self.outputs)) if (np.isfinite(self.y[..., place]) & self.mask).any()
        ]

    def _part(self, sessions: slice) -> "Sequences":
        arrays = {name: getattr(self, name)[:, sessions] for name in ("x", "mask", "y", "returns", "asked")}
        return replace(self, **arrays, sessions=self.sessions[sessions])


def build_sequences(
    panel: Panel, feature_set: FeatureSet, universe: Universe, outputs: tuple[Output, ...]
) -> Sequences:
    """Compute the features, mask and labels of a panel.

    A label is the sign of a return of `Sequences.returns`; a return of zero and one without trades have none.
    """
    belongs = universe.membership(panel.sessions, panel.symbols).to_numpy()
    columns = feature_set.compute(panel, belongs)
    x = _to_batch_order([columns[name].to_numpy(np.float32) for name in feature_set.columns])
    mask = np.isfinite(x).all(axis=-1) & _to_batch_order([panel.has_bar & belongs])[..., 0]
    x[~mask] = 0.0
    returns = [label_returns(panel, output, belongs) for output in outputs]
    asked = _to_batch_order([may_be_asked(panel, output, belongs) for output in outputs])
    return Sequences(
        x=x,
        mask=mask,
        y=np.where(asked, _to_batch_order([make_labels(each) for each in returns]), np.float32(np.nan)),
        returns=_to_batch_order(returns),
        asked=asked,
        symbols=tuple(panel.symbols),
        sessions=panel.sessions,
        outputs=outputs,
        features=feature_set.columns,
    )


def blank_dead_zone(
    y: NDArray[np.float32], returns: NDArray[np.float64], dead_zone: tuple[float, float], rows: range
) -> NDArray[np.float32]:
    """Return labels [symbol, session, output], NaN for small returns in the sessions of `rows`.

    Args:
        y: Labels.
        returns: The returns of the labels, [symbol, session, output].
        dead_zone: (down, up): returns within [down, up] have no training label.
        rows: The sessions whose labels are masked; other sessions keep every label.
    """
    down, up = dead_zone
    inside = np.zeros(y.shape, dtype=bool)
    part = slice(rows.start, rows.stop)
    inside[:, part] = (returns[:, part] >= down) & (returns[:, part] <= up)
    return np.where(inside, np.float32(np.nan), y)


def make_labels(returns: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return 1 where a return is above 0, 0 where it is below, NaN where it is 0 or unknown."""
    up = np.where(returns > 0, 1.0, 0.0)
    return np.where(np.isnan(returns) | (returns == 0), np.nan, up).astype(np.float32)


def _to_batch_order(columns: Iterable[NDArray[Number]]) -> NDArray[Number]:
    """Stack arrays [session, symbol] into the order of a model's batches, [symbol, session, column].

    The only place where the axes turn: every array before it is [session, symbol].
    """
    return np.stack([column.T for column in columns], axis=-1)
