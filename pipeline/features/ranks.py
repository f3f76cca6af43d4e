"""The rank of a symbol among the members of a session."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["rank_members"]


def rank_members(values: pd.DataFrame, belongs: NDArray[np.bool_]) -> pd.DataFrame:
    """Return the rank among the members of a session, [session, symbol], from -0.5 to 0.5; 0 where it is alone.

    NaN where the value is not finite or the symbol is no member.
    """
    from scipy.stats import rankdata  # half a second, which commands that compute no feature need not wait

    known = np.where(belongs & np.isfinite(values.to_numpy()), values.to_numpy(), np.nan)
    rank, count = rankdata(known, axis=1, nan_policy="omit"), np.isfinite(known).sum(axis=1, keepdims=True)
    return pd.DataFrame(np.where(count > 1, (rank - 1) / np.maximum(count - 1, 1) - 0.5, 0 * rank))
