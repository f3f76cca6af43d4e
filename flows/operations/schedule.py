"""The cron lines of [schedule], read as Prefect reads them, and compared with the sessions of the exchange."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import pandas as pd
from prefect.server.schemas.schedules import CronSchedule

from flows.runtime.context import Run
from pipeline.errors import ConfigError

__all__ = ["FLOWS", "PLANNED", "check_schedule", "list_starts", "planned_evening"]

FLOWS: Final = {"nightly": "after-close", "retrain": "weekly", "maintenance": "monthly", "backtest": ""}
"""The deployed flows, each with the slug of its schedule from [schedule]; empty: it has no schedule."""

PLANNED: Final = [name for name, slug in FLOWS.items() if slug]
"""The flows with a schedule."""

_MAX_STARTS: Final = 1000
"""Starts read per period: a cron line with more is not meant for nightly runs."""

_SESSIONS: Final = 252
"""Sessions that a schedule is compared with: a year, with both changes of the clock."""

_RARE: Final = 0.05
"""Share of the sessions below which a weekday is an exception, like a Sunday of a budget speech."""

_MISSED: Final = 0.25
"""Share of a weekday's sessions without a start in time above which the schedule does not fit."""

_DAYS: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


class _Evening(NamedTuple):
    """The time in which the forecast from a session can be made and sealed live.

    Attributes:
        weekday: The session's weekday, for example Sunday.
        closed: When the session counts as closed: its close and the delay.
        opens: When the next session opens.
    """

    weekday: str
    closed: pd.Timestamp
    opens: pd.Timestamp


def check_schedule(run: Run, where: Path | str) -> None:
    """Check that every flow with a schedule starts at all, and the nightly one after each session in time.

    A nightly run is in time if it starts once the session counts as closed ([prices] delay_minutes after its close) and
    before the next one opens: later ones are late, and their forecasts too. A historical source has no evenings.

    Args:
        run: The run.
        where: The settings file, for the message.

    Raises:
        ConfigError: a line of [schedule] is not a cron line, or does not fit; the message names every such line.
    """
    faults = [fault for name in PLANNED for fault in _list_faults(name, run, where)]
    if faults:
        raise ConfigError(
            "\n".join(what for what, _ in faults),
            where=str(where),
            fix="; ".join(dict.fromkeys(fix for _, fix in faults)),
        )


def planned_evening(run: Run, before: datetime) -> datetime | None:
    """Return the last start of the nightly run before a time, as planned in [schedule]; None: none in 40 days.

    Raises:
        ConfigError: the line is not a cron line.
    """
    schedule = _read_cron("nightly", run, "[schedule]")
    for days in (1, 8, 40):
        starts = asyncio.run(schedule.get_dates(_MAX_STARTS, before - timedelta(days=days), before))
        if starts:
            return starts[-1]
    return None


def list_starts(run: Run, flow: str, since: datetime, until: datetime) -> list[datetime]:
    """Return the starts of a flow in [since, until], as planned in [schedule].

    Raises:
        ConfigError: its line is not a cron line.
    """
    schedule = _read_cron(flow, run, "[schedule]")

    async def collect() -> list[datetime]:
        starts = list[datetime]()
        while found := await schedule.get_dates(_MAX_STARTS, starts[-1] if starts else since, until):
            new = [start for start in found if not starts or start > starts[-1]]
            if not new:
                break
            starts += new
        return starts

    try:
        return asyncio.run(collect())
    except ValueError:  # croniter's word for a date that no year has
        return []


def _read_cron(name: str, run: Run, where: Path | str) -> CronSchedule:
    line = getattr(run.config.schedule, name)
    try:
        return CronSchedule(cron=line, timezone=run.calendar.timezone)
    except ValueError:
        raise ConfigError(
            f"[schedule] {name} = {line!r} is not a cron line",
            where=str(where),
            fix="minute, hour, day, month, weekday, for example 30 18 * * MON-FRI",
        ) from None


def _list_faults(name: str, run: Run, where: Path | str) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with one line of [schedule], each with its fix."""
    try:
        schedule = _read_cron(name, run, where)
    except ConfigError as error:
        yield error.what, error.fix
        return
    if not _next_starts(schedule, [run.now])[0]:
        yield f"[schedule] {name} = {schedule.cron!r} never starts", "write a day that exists"
        return
    if name != "nightly" or run.is_historical:
        return
    evenings = _list_evenings(run)
    if 2 * sum(evening.closed < evening.opens for evening in evenings) < len(evenings):
        yield (
            f"[prices] delay_minutes = {run.config.prices.delay_minutes}: the next session opens before a session "
            "counts as closed, and every forecast would be late",
            "lower it",
        )
    elif missed := _list_missed(schedule, evenings):
        yield _describe_missed(schedule, missed, evenings), _suggest(schedule, evenings)


def _list_evenings(run: Run) -> list[_Evening]:
    """Return the evenings of the last year that the calendar covers, ascending."""
    days = run.calendar
    closed = days.closes + timedelta(minutes=run.config.prices.delay_minutes)
    weekdays = days.sessions.day_name()[:-1]
    evenings = zip(weekdays, closed.iloc[:-1], days.opens.iloc[1:], strict=True)
    return [_Evening(*evening) for evening in evenings][-_SESSIONS:]


def _list_missed(schedule: CronSchedule, evenings: Sequence[_Evening]) -> list[str]:
    """Return the weekdays whose sessions have no start in time, in the order of the week."""
    starts = _next_starts(schedule, [evening.closed for evening in evenings])
    held = Counter(evening.weekday for evening in evenings)
    late = Counter(
        evening.weekday
        for evening, start in zip(evenings, starts, strict=True)
        if start is None or start >= evening.opens
    )
    missed = [day for day in held if held[day] > _RARE * len(evenings) and late[day] > _MISSED * held[day]]
    return sorted(missed, key=_place)


def _next_starts(schedule: CronSchedule, moments: Sequence[datetime]) -> list[datetime | None]:
    """Return the first start at or after each moment; None where there is none."""

    async def collect() -> list[datetime | None]:
        return [next(iter(await schedule.get_dates(1, moment)), None) for moment in moments]

    try:
        return asyncio.run(collect())
    except ValueError:  # croniter's word for a date that no year has
        return [None] * len(moments)


def _describe_missed(schedule: CronSchedule, missed: list[str], evenings: Sequence[_Evening]) -> str:
    line = f"[schedule] nightly = {schedule.cron!r}"
    of_missed = [evening for evening in evenings if evening.weekday in missed]
    example = min(of_missed, key=lambda evening: evening.opens - evening.closed)  # no holiday between
    closed, opens = (
        f"{moment.tz_convert(schedule.timezone):%a %H:%M}" for moment in (example.closed, example.opens)
    )
    times = f"for example {closed} to {opens}, in {schedule.timezone}"
    window = f"between a session's close, with [prices] delay_minutes, and the next open ({times})"
    if len(missed) == len({evening.weekday for evening in evenings}):
        return f"{line} never starts {window}: every forecast would be late"
    *days, last = [f"{day}s" for day in missed]
    named = f"{', '.join(days)} and {last}" if days else last
    return f"{line} starts no run for the sessions of {named} {window}: their forecasts would be late"


def _suggest(schedule: CronSchedule, evenings: Sequence[_Evening]) -> str:
    """Return the fix: a line that fits, at the time of the given one if that is possible."""
    given = (*schedule.cron.split(), "0")[:2]
    # A quarter of an hour for the vendor, on the half hour.
    ends = [(evening.closed + pd.Timedelta(minutes=15)).ceil("30min") for evening in evenings]
    local = [end.tz_convert(schedule.timezone) for end in ends]
    (usual, _), *_ = Counter((str(end.minute), str(end.hour)) for end in local).most_common(1)
    for (minute, hour), days in (
        (given, [evening.weekday for evening in evenings]),
        (usual, [end.day_name() for end in local]),
    ):
        cron = f"{minute} {hour} * * {_format_days(days)}"
        if not _list_missed(schedule.model_copy(update={"cron": cron}), evenings):
            return f'nightly = "{cron}" fits this calendar'
    return "write times between a session's close, with [prices] delay_minutes, and the next open"


def _format_days(days: Sequence[str]) -> str:
    """Return the weekdays as in a cron line; those of a few sessions a year are left out."""
    usual = sorted({_place(day) for day, held in Counter(days).items() if held > _RARE * len(days)})
    if usual[-1] - usual[0] == len(usual) - 1:
        return f"{_DAYS[usual[0]]}-{_DAYS[usual[-1]]}" if len(usual) > 1 else _DAYS[usual[0]]
    return ",".join(_DAYS[place] for place in usual)


def _place(day: str) -> int:
    return _DAYS.index(day[:3].upper())
