"""Which rows of a panel a model may use, and the windows that end there.

A panel is a block x [symbol, session, feature]. A row is one (symbol, session), named by its flat number
symbol * sessions + session; its window is that session and the `lookback - 1` sessions before it.
"""

import numpy as np
from numpy.typing import NDArray

from models.errors import ModelError

__all__ = ["check_panel", "gather_windows", "labelled_rows", "share_of_ups", "usable_rows"]


def usable_rows(mask: NDArray[np.bool_], lookback: int) -> NDArray[np.bool_]:
    """Return [symbol, session]: true where all `lookback` sessions up to and with this one are valid."""
    usable = np.zeros(mask.shape, dtype=bool)
    if mask.shape[1] >= lookback:
        windows = np.lib.stride_tricks.sliding_window_view(mask, lookback, axis=1)
        usable[:, lookback - 1 :] = windows.all(axis=-1)
    return usable


def labelled_rows(
    usable: NDArray[np.bool_], y: NDArray[np.float32], sessions: range, name: str
) -> NDArray[np.int32]:
    """Return the flat numbers of the usable rows of `sessions` that have a label at any horizon.

    Args:
        usable: [symbol, session], of `usable_rows`.
        y: [symbol, session, horizon] in {0, 1}, NaN where unknown.
        sessions: Consecutive session numbers.
        name: What the range is for, as the error names it.

    Raises:
        ModelError: if a horizon has no label at all in this range.
    """
    inside = np.zeros(usable.shape[1], dtype=bool)
    inside[sessions.start : sessions.stop] = True
    known = ~np.isnan(y) & (usable & inside)[:, :, None]
    if not known.any(axis=(0, 1)).all():
        raise ModelError(
            f"the {name} range has no row with both a full window and a label",
            where=f"sessions {sessions.start} to {sessions.stop - 1} of {usable.shape[1]}",
            way_out="give the range more sessions, shorten the lookback, or add symbols with more history",
        )
    return np.flatnonzero(known.any(axis=-1)).astype(np.int32)


def share_of_ups(y: NDArray[np.float32], rows: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the share of ups among the known labels of `rows`, one a horizon."""
    return np.asarray(np.nanmean(y.reshape(-1, y.shape[-1])[rows], axis=0, dtype=np.float64))


def gather_windows(x: NDArray[np.float32], rows: NDArray[np.int32], lookback: int) -> NDArray[np.float32]:
    """Return the windows [row, lookback, feature] that end at the flat numbers `rows` of x."""
    windows: NDArray[np.float32] = x.reshape(-1, x.shape[-1])[rows[:, None] + np.arange(1 - lookback, 1)]
    return windows


def check_panel(x: NDArray[np.float32], mask: NDArray[np.bool_], features: int) -> None:
    """Raise unless x is [symbol, session, features], fits its mask, and is finite wherever the mask holds.

    Raises:
        ModelError: naming the two shapes, or the first row and feature that is not finite.
    """
    if x.shape != (*mask.shape, features):
        raise ModelError(
            f"x has shape {x.shape}, expected {(*mask.shape, features)}: mask and {features} features"
        )
    broken = ~np.isfinite(x) & mask[:, :, None]
    if broken.any():
        symbol, session, feature = np.argwhere(broken)[0]
        raise ModelError(
            f"x has {int(broken.sum())} values that are not finite although their row is valid",
            where=f"first at symbol {symbol}, session {session}, feature {feature}",
            way_out="mask the row, or mend the feature",
        )
