"""The columns of context series: their changes and their distance from the mean, as known at each close."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.features.columns import BRIDGED, Columns, FeatureSet, log_of, rolling
from pipeline.features.panel import Panel

__all__ = ["CONTEXT", "with_context"]

CONTEXT: Final = "context_"
"""The prefix of these columns."""

_CHANGES: Final = (1, 5, 21)
_QUARTER: Final = 63
_MEASURES: Final = (*(f"change_{k}" for k in _CHANGES), f"distance_from_mean_{_QUARTER}")


def with_context(features: FeatureSet, symbols: Sequence[str]) -> FeatureSet:
    """Return the feature set with four columns per series, the same for every symbol of a session.

    With v the newest value known at the close of each session of the universe: context_S_change_k is log v less that of
    k sessions of the universe earlier (0 where nothing new became known), context_S_distance_from_mean_63 is log v less
    its mean over 63 sessions. A missing value masks the row, unless it is carried (`pipeline.features.context`).
    """

    def compute(panel: Panel, belongs: NDArray[np.bool_]) -> Columns:
        if panel.context is None:
            raise ValueError("a panel without context")
        joined = panel.context.join(panel.sessions)
        width = len(panel.symbols)
        return {
            **features.compute(panel, belongs),
            **{
                f"{CONTEXT}{symbol}_{name}": pd.DataFrame(np.tile(values.to_numpy(), width))
                for symbol in symbols
                for name, values in _measure(joined[symbol].value).items()
            },
        }

    return replace(
        features,
        added=(*features.added, "context"),
        columns=(
            *features.columns,
            *(f"{CONTEXT}{symbol}_{name}" for symbol in symbols for name in _MEASURES),
        ),
        compute=compute,
        reach=max(features.reach, _QUARTER + BRIDGED),
        context=tuple(symbols),
    )


def _measure(value: NDArray[np.float64]) -> Columns:
    log = log_of(pd.DataFrame(value))
    known = log.ffill(limit=BRIDGED)
    columns = {f"change_{k}": log - known.shift(k) for k in _CHANGES}
    return columns | {f"distance_from_mean_{_QUARTER}": log - rolling(log, _QUARTER).mean()}
