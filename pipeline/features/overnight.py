"""Two columns beside a feature set, where an overnight return is forecast: the last one and the mean of twenty."""

from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.features.columns import Columns, FeatureSet
from pipeline.features.panel import Panel
from pipeline.features.targets import part_returns
from pipeline.outputs import NEXT, Output

__all__ = ["OVERNIGHT_COLUMNS", "with_overnight"]

OVERNIGHT_COLUMNS: Final = {
    "last_overnight": "overnight_return",
    "mean_overnight_20": "overnight_mean_20",
}
"""The column that each overnight rule among the baselines reads."""

_SESSIONS: Final = 20


def with_overnight(features: FeatureSet) -> FeatureSet:
    """Return the feature set with the columns of OVERNIGHT_COLUMNS; 0 where a symbol has no real open.

    overnight_return at session t is the total return from the close of t - 1 to the open of t, known before the close
    of t. overnight_mean_20 is the mean of those known in the last twenty sessions.
    """

    def compute(panel: Panel, belongs: NDArray[np.bool_]) -> Columns:
        ahead = part_returns(panel, Output("overnight", NEXT))
        night = pd.DataFrame(np.vstack([np.full_like(ahead[:1], np.nan), ahead[:-1]]))
        mean = night.rolling(_SESSIONS, min_periods=1).mean()
        return {
            **features.compute(panel, belongs),
            "overnight_return": night.fillna(0.0),
            "overnight_mean_20": mean.fillna(0.0),
        }

    return replace(
        features,
        columns=(*features.columns, *OVERNIGHT_COLUMNS.values()),
        compute=compute,
        reach=max(features.reach, _SESSIONS),
    )
