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
    "format_day",
    "format_instant",
    "format_interval",
    "format_moment",
    "format_p_value",
    "format_percent",
    "format_points",
    "format_price",
    "format_score",
]

_SPANS: Final = (
    (90, 1, "second"),
    (90 * 60, 60, "minute"),
    (36 * 3600, 3600, "hour"),
    (math.inf, 86400, "day"),
)


def format_percent(value: float) -> str:
    """Format a share as a percentage with one decimal; NaN is a dash."""
    return "–" if math.isnan(value) else f"{value:z.1%}"


def format_points(difference: float) -> str:
    """Format a difference of two shares in percentage points."""
    return f"{100 * difference:+z.1f} pp"


def format_p_value(value: float) -> str:
    """Format a p-value with three decimals, or as "< 0.001"; NaN is a dash."""
    return "–" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def describe_p_value(value: float) -> str:
    """Format a p-value for a sentence: "p = 0.041", "p < 0.001"."""
    return "p is not defined" if math.isnan(value) else "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def format_score(value: float, metric: str) -> str:
    """Format a score in the unit of its metric; NaN is a dash."""
    if metric in ("hit_rate", "balanced_accuracy", "sides_taken"):
        return format_percent(value)
    return "–" if math.isnan(value) else f"{value:z.4f}"


def format_interval(low: float, high: float, metric: str, sessions: int, horizon: int = 1) -> str:
    """Format an interval; without one, a dash and the reason."""
    if math.isnan(low) or math.isnan(high):
        least = MIN_SESSIONS * horizon
        return f"– (under {least} sessions)" if sessions < least else "– (not defined)"
    return f"{format_score(low, metric)} to {format_score(high, metric)}"


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
