"""When each flow would have started, as [schedule] plans it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pandas as pd

from flows.operations.schedule import PLANNED, list_starts
from flows.runtime.context import Run
from pipeline.errors import ConfigError

__all__ = ["Start", "plan_starts"]

_FARTHEST = timedelta(days=40)
"""How long after the last session its evening may start, as with one nightly run a month."""


@dataclass(frozen=True)
class Start:
    """A start of a flow.

    Attributes:
        at: When (UTC).
        flow: nightly, retrain or maintenance.
    """

    at: datetime
    flow: str


def plan_starts(run: Run, first: pd.Timestamp, last: pd.Timestamp) -> list[Start]:
    """Return the starts from the evening of session `first` to that of session `last`, which is the last one, in order.

    A nightly run that finds no new session, as on a holiday, changes nothing and is left out.

    Args:
        run: The run, for the schedule and the calendar.
        first: The first session.
        last: The last session.

    Raises:
        ConfigError: [schedule] is invalid, or has no evening in between.
    """
    begin, end = (
        run.calendar.closes[first].to_pydatetime(),
        run.calendar.closes[last].to_pydatetime() + _FARTHEST,
    )
    evenings, newest = list[Start](), None
    for at in list_starts(run, "nightly", begin, end):
        session = run.closed_by(at)
        if first <= session <= last and (newest is None or session > newest):
            evenings.append(Start(at.astimezone(UTC), "nightly"))
            newest = session
    if not evenings:
        raise ConfigError(
            f"No nightly run is planned for the sessions from {first:%Y-%m-%d} to {last:%Y-%m-%d}",
            where=f"[schedule] nightly = {run.config.schedule.nightly!r}",
            fix="write times after the close of a session, or simulate more sessions",
        )
    others = [
        Start(at.astimezone(UTC), flow)
        for flow in PLANNED
        if flow != "nightly"
        for at in list_starts(run, flow, evenings[0].at, evenings[-1].at)
        if at < evenings[-1].at
    ]
    return sorted([*evenings, *others], key=lambda start: (start.at, PLANNED.index(start.flow)))
