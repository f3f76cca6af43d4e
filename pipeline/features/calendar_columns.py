"""Columns on the next session that the exchange's rules tell beforehand: weekday, turn of month, holidays, half day."""

from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.features.columns import Columns, FeatureSet
from pipeline.features.panel import Panel
from pipeline.market.calendar import Calendar

__all__ = ["CALENDAR_COLUMNS", "with_calendar"]

_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday")

CALENDAR_COLUMNS: Final = (
    *(f"next_is_{day}" for day in _WEEKDAYS),
    "next_is_turn_of_month",
    "next_is_half_day",
    "next_sessions_since_holiday",
    "next_sessions_to_holiday",
)


def with_calendar(features: FeatureSet, calendar: Calendar) -> FeatureSet:
    """Return the feature set with the columns of CALENDAR_COLUMNS, the same for every symbol of a session.

    They describe the day on which the next session was expected at the close: a closure that nobody knew of beforehand
    is not known here either (`pipeline.market.schedule`). The distances are in sessions, 0 next to a holiday and 10 at
    most. They depend on no bar.
    """

    def compute(panel: Panel, belongs: NDArray[np.bool_]) -> Columns:
        values = _describe_next(calendar, panel.sessions)
        width = len(panel.symbols)
        return {
            **features.compute(panel, belongs),
            **{name: pd.DataFrame(np.tile(each[:, None], width)) for name, each in values.items()},
        }

    return replace(
        features,
        added=(*features.added, "calendar"),
        columns=(*features.columns, *CALENDAR_COLUMNS),
        compute=compute,
    )


def _describe_next(calendar: Calendar, sessions: pd.DatetimeIndex) -> dict[str, NDArray[np.float64]]:
    schedule = calendar.schedule
    days = schedule.next_expected(sessions)
    values = (
        *(days.day_of_week == number for number in range(len(_WEEKDAYS))),
        schedule.is_turn_of_month(days),
        schedule.is_half_day(days),
        schedule.sessions_since_holiday(sessions, days),
        schedule.sessions_to_holiday(days),
    )
    return {name: np.asarray(each, float) for name, each in zip(CALENDAR_COLUMNS, values, strict=True)}
