"""The returns that are forecast: from close to close, to the next open or from it, alone or against the median."""

from collections.abc import Iterable
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.features.panel import Panel
from pipeline.outputs import Output

__all__ = [
    "MIN_MEMBERS",
    "OPENS_SEEN",
    "label_returns",
    "may_be_asked",
    "median_of",
    "part_returns",
    "reach_of_targets",
]

Floats = NDArray[np.float64]

MIN_MEMBERS: Final = 5
"""With fewer members that have a return, a median says little, and there is no relative label."""

OPENS_SEEN: Final = 63
"""A symbol has opens if at least half of its bars of so many sessions have a real one."""

_SAME: Final = 1e-9  # of two prices, as in the trading view
_ROUNDING: Final = 1e-12  # an unchanged price must have a return of exactly 0 after the adjustments


def part_returns(panel: Panel, output: Output) -> Floats:
    """Return the simple total return of each symbol over the output's part of the time, [session, symbol].

    direction: from the close of the session to the close `horizon` sessions later; overnight: from the close to the
    open of the next session, dividends included; intraday: from that open to its close. The product of (1 + overnight)
    and (1 + intraday) is 1 + direction. NaN where a price is missing, where the later session did not trade or lies
    after the panel, and where the open is none: equal to the close before it, as some vendors fill it.
    """
    level = np.where(panel.has_bar, panel.adj_close, np.nan)
    reached = np.where(panel.is_traded, level, np.nan)
    if output.needs_open:
        opened = np.where(_has_real_open(panel), reached * panel.open / panel.close, np.nan)
        if output.part == "overnight":
            reached = opened
        else:
            level = _shift(opened, output.horizon)
    change = _shift(reached, output.horizon) / level - 1
    return np.where(np.abs(change) < _ROUNDING, 0.0, change)


def median_of(returns: Floats, belongs: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.int64]]:
    """Return the median return of the members of each session, NaN with fewer than MIN_MEMBERS, and their number.

    Args:
        returns: [session, symbol].
        belongs: Whether a symbol is a member, [session, symbol].
    """
    of_members = np.where(belongs, returns, np.nan)
    known = np.isfinite(of_members).sum(axis=1)
    median, enough = np.full(len(returns), np.nan), known >= MIN_MEMBERS
    if enough.any():
        median[enough] = np.nanmedian(of_members[enough], axis=1)
    return median, known


def label_returns(panel: Panel, output: Output, belongs: NDArray[np.bool_]) -> Floats:
    """Return the returns whose signs are the labels, [session, symbol]; of a relative target less the median."""
    returns = part_returns(panel, output)
    return returns - median_of(returns, belongs)[0][:, None] if output.is_relative else returns


def may_be_asked(panel: Panel, output: Output, belongs: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where the output can be forecast, by what is known at the close, [session, symbol].

    Overnight and intraday need opens: at least half of the bars of the last OPENS_SEEN sessions have a real one.
    A relative target needs MIN_MEMBERS members with a bar for which that holds.
    """
    asked = np.ones(panel.close.shape, dtype=bool)
    if output.needs_open:
        asked = 2 * _count_recent(_has_real_open(panel)) >= np.maximum(_count_recent(panel.has_bar), 1)
    if output.is_relative:
        asked = asked & ((asked & belongs & panel.has_bar).sum(axis=1, keepdims=True) >= MIN_MEMBERS)
    return asked


def reach_of_targets(outputs: Iterable[Output]) -> int:
    """Return how many earlier sessions `may_be_asked` depends on."""
    return OPENS_SEEN if any(output.needs_open for output in outputs) else 0


def _has_real_open(panel: Panel) -> NDArray[np.bool_]:
    """Return whether the open is known and no repetition of the last close before it, [session, symbol]."""
    before = pd.DataFrame(panel.close).ffill().shift().to_numpy()
    is_stale = np.abs(panel.open / before - 1) < _SAME
    return np.asarray(np.isfinite(panel.open) & ~is_stale)


def _count_recent(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    total = np.cumsum(flags, axis=0, dtype=np.int64)
    total[OPENS_SEEN:] -= total[:-OPENS_SEEN].copy()
    return total


def _shift(values: Floats, sessions: int) -> Floats:
    """Return the values of so many sessions later, NaN after the end."""
    ahead = np.full_like(values, np.nan)
    if sessions < len(values):
        ahead[:-sessions] = values[sessions:]
    return ahead
