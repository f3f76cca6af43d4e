"""Formats of numbers, days and instants, shared by the page, the terminal and Prefect."""

import math
from datetime import UTC, datetime
from typing import Final

import pandas as pd

from pipeline.schema import MIN_SESSIONS

__all__ = [
    "count",
    "describe_lead",
    "describe_p_value",
    "format_alike",
    "format_day",
    "format_effective_n",
    "format_instant",
    "format_interval",
    "format_moment",
    "format_p_value",
    "format_percent",
    "format_points",
    "format_price",
    "format_return",
    "format_score",
]

_MORE_DECIMALS: Final = 4
_SHARES: Final = ("hit_rate", "balanced_accuracy", "sides_taken")
_BASIS_POINTS: Final = ("top_minus_bottom",)

_SPANS: Final = (
    (90, 1, "second"),
    (90 * 60, 60, "minute"),
    (36 * 3600, 3600, "hour"),
    (math.inf, 86400, "day"),
)


def format_percent(value: float) -> str:
    """Format a share as a percentage with one decimal; NaN is a dash."""
    return "–" if math.isnan(value) else f"{value:z.1%}"


def format_alike(
    *values: float, decimals: int = 4, sign: str = "+", percent: bool = False
) -> tuple[str, ...]:
    """Format a difference, or an interval, with as many decimals as show it.

    All values get the same number of decimals: `decimals`, or up to four more where one that is not zero would look
    like zero, or two different ones alike. So a difference of 0.00006 whose interval begins at -0.00001 is not
    "+0.0001 [0.0000, 0.0001]".

    Args:
        *values: The values; NaN is a dash.
        decimals: The fewest decimals.
        sign: "+" for differences; empty: only negative values have a sign.
        percent: Format shares as percentages.
    """
    numbers = [0.0, *(100 * value if percent else value for value in values if math.isfinite(value))]
    most = decimals + _MORE_DECIMALS
    kinds = len({round(number, most) for number in numbers})
    shown = next(
        n for n in range(decimals, most + 1) if len({round(x, n) for x in numbers}) == kinds or n == most
    )
    form = f"{sign}z.{shown}{'%' if percent else 'f'}"
    return tuple("–" if math.isnan(value) else format(value, form) for value in values)


def format_return(value: float) -> str:
    """Format a return as a percentage with its sign, with as many decimals as show it; NaN is a dash."""
    return format_alike(value, decimals=2, percent=True)[0]


def format_points(difference: float) -> str:
    """Format a difference of two shares in percentage points, with as many decimals as show it."""
    (text,) = format_alike(100 * difference, decimals=1)
    return f"{text} pp"


def format_effective_n(effective_n: float) -> str:
    """Return how many independent forecasts the rows of a score are worth; a dash where it cannot be told."""
    return f"{effective_n:,.0f}" if math.isfinite(effective_n) else "–"


def format_p_value(value: float) -> str:
    """Format a p-value with three decimals, or as "< 0.001"; NaN is a dash."""
    return "–" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def describe_p_value(value: float) -> str:
    """Format a p-value for a sentence: "p = 0.041", "p < 0.001"."""
    return "p is not defined" if math.isnan(value) else "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def format_score(value: float, metric: str) -> str:
    """Format a score in the unit of its metric; NaN is a dash."""
    if metric in _SHARES:
        return format_percent(value)
    if metric in _BASIS_POINTS:
        return "–" if math.isnan(value) else f"{_in_basis_points(value)[0]} bp"
    return "–" if math.isnan(value) else f"{value:z.4f}"


def format_interval(low: float, high: float, metric: str, sessions: int, horizon: int = 1) -> str:
    """Format an interval, with as many decimals as tell its ends apart; without one, a dash and the reason."""
    if not sessions:
        return "– (too few stocks)"
    if math.isnan(low) or math.isnan(high):
        least = MIN_SESSIONS * horizon
        return f"– (under {least} sessions)" if sessions < least else "– (not defined)"
    if metric in _BASIS_POINTS:
        return f"{' to '.join(_in_basis_points(low, high))} bp"
    is_share = metric in _SHARES
    return " to ".join(format_alike(low, high, decimals=1 if is_share else 4, sign="", percent=is_share))


def _in_basis_points(*returns: float) -> tuple[str, ...]:
    return format_alike(*(1e4 * value for value in returns), decimals=1)


def format_price(value: float) -> str:
    """Format a price with two decimals, one below 1 with four significant digits."""
    return f"{value:,.2f}" if value >= 1 else f"{value:.4g}"


def format_day(session: pd.Timestamp) -> str:
    """Format a session with its weekday."""
    return f"{session:%a %Y-%m-%d}"


def format_moment(when: datetime) -> str:
    """Format an instant for people: weekday, date, hour and minute, UTC."""
    return f"{when.astimezone(UTC):%a %Y-%m-%d %H:%M} UTC"


def format_instant(when: datetime) -> str:
    """Format an instant in ISO 8601, UTC, to the second."""
    return f"{when.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def describe_lead(later: datetime, earlier: datetime) -> str:
    """Describe how long `earlier` is before `later`, as "2 hours before"; "after" if it is later."""
    seconds = (later - earlier).total_seconds()
    size, word = next((size, word) for limit, size, word in _SPANS if abs(seconds) < limit)
    return f"{count(round(abs(seconds) / size), word)} {'after' if seconds < 0 else 'before'}"


def count(number: int, word: str) -> str:
    """Format a count with its noun: "1 session", "1,006 sessions"."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"
