"""What there is to tell: each event as a message, in plain text."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pandas as pd

from flows.runtime.context import Run
from pipeline.formatting import count, format_day, format_percent
from pipeline.notify_config import NotifyConfig
from pipeline.outputs import describe_in_sentence, list_outputs, select_output
from pipeline.prices.ingest.fetch_log import QuarantineEntry
from pipeline.report.files import report_paths
from pipeline.report.output_tables import count_forecasts, sort_by_distance
from pipeline.report.tables import count_directions
from pipeline.storage.workspace import Workspace
from pipeline.tracking.registry import RegisteredModel

__all__ = [
    "Event",
    "Message",
    "compose",
    "describe_decay",
    "describe_evening",
    "describe_promotion",
    "describe_quarantine",
    "describe_trouble",
]

_MOST: Final = 10
"""Events that one message lists."""

_RECENT: Final = timedelta(days=7)
"""A promotion is news for as long as the weekly training needs to make the next one."""


@dataclass(frozen=True)
class Event:
    """Something that has happened, and that is told to each address once.

    Attributes:
        name: Its name in the log of what was sent; the first word is its kind.
        text: One line.
    """

    name: str
    text: str


@dataclass(frozen=True, eq=False)
class Message:
    """A message about one or more events of a kind.

    Attributes:
        kind: One of notify_config.KINDS.
        title: One line.
        events: The events, told in this order.
        table: Further lines for who wants more than one.
        page: The report; None where there is none.
        csv: The file with the forecasts; None where there is none.
        is_past: Whether it is about an earlier evening: it is told only where a run ended before it could tell it.
    """

    kind: str
    title: str
    events: tuple[Event, ...]
    table: tuple[str, ...] = ()
    page: Path | None = None
    csv: Path | None = None
    is_past: bool = False

    def files(self, settings: NotifyConfig) -> list[Path]:
        """Return the files to attach."""
        wanted = {"csv": self.csv, "html": self.page}
        return [path for name in settings.attach if (path := wanted.get(name))]


def compose(message: Message, events: Sequence[Event], settings: NotifyConfig, workspace: Workspace) -> str:
    """Return the text of a message about some of its events, as long as the settings ask for."""
    lines = [event.text for event in events[:_MOST]]
    if len(events) > _MOST:
        lines.append(f"and {len(events) - _MOST} more")
    if settings.length == "table":
        lines += message.table
    if "link" in settings.attach and message.page:
        place = message.page.relative_to(workspace.reports).as_posix()
        lines.append(
            f"{settings.reports_url.rstrip('/')}/{place}" if settings.reports_url else str(message.page)
        )
    return "\n".join(lines)


def describe_evening(run: Run, rows: pd.DataFrame, headline: str = "", *, is_past: bool = False) -> Message:
    """Describe the sealed forecasts of one session.

    Args:
        run: The run.
        rows: The sealed rows (schema.FORECASTS) of one as_of.
        headline: The verdict of the report, in a sentence; may be empty.
        is_past: Whether they were sealed by an earlier run.
    """
    first = list_outputs(rows)[0]
    ranked = sort_by_distance(select_output(rows, first))
    target = pd.Timestamp(ranked["target_session"].iloc[0])
    kind = "live" if (rows["kind"] == "live").all() else "late"
    text = (
        f"{count_forecasts(rows)} for {format_day(target)}: {count_directions(rows)} ({kind}); "
        f"surest {_describe_row(ranked.iloc[0])}" + (f". {headline}" if headline else "")
    )
    shown = ranked.head(run.config.notify.surest)
    about = describe_in_sentence(first).removeprefix(", ")
    paths = report_paths(run.workspace.reports, run.name, target)
    return Message(
        kind="evening",
        title=f"nextday {run.name}: forecasts for {format_day(target)}",
        events=(Event(f"evening {target:%Y-%m-%d}", text),),
        table=(*([about] if about else []), *(_describe_row(row) for _, row in shown.iterrows())),
        page=paths.html,
        csv=paths.forecast_csv,
        is_past=is_past,
    )


def _describe_row(row: "pd.Series[Any]") -> str:
    return (
        f"{row['symbol']} {row['direction']} {format_percent(row['p_up'])} "
        f"(base rate {format_percent(row['baseline_p_up'])})"
    )


def describe_trouble(universe: str, flow: str, day: date, what: str, details: str) -> Message:
    """Describe a failed run; the same failure is told once a day.

    Args:
        universe: The universe's name.
        flow: The flow's name.
        day: The day (UTC).
        what: What happened, in a sentence.
        details: The same with place and fix, in lines.
    """
    name = f"trouble {flow} {day:%Y-%m-%d} {sha256(what.encode()).hexdigest()[:8]}"
    return Message("trouble", f"nextday {universe}: the {flow} run failed", (Event(name, details),))


def describe_quarantine(run: Run, entries: Sequence[QuarantineEntry]) -> Message:
    """Describe the listings in quarantine: each is told when it is put there."""
    return Message(
        kind="quarantine",
        title=f"nextday {run.name}: {count(len(entries), 'symbol')} in quarantine",
        events=tuple(
            Event(
                f"quarantine {each.instrument_id} {each.since:%Y-%m-%dT%H:%M:%S}",
                f"{each.symbol} is in quarantine since {each.since:%Y-%m-%d} ({each.rule}): "
                "nextday prices quarantine list shows why",
            )
            for each in entries
        ),
    )


def describe_promotion(run: Run, model: RegisteredModel | None) -> list[Message]:
    """Describe the champion's promotion, if that is news."""
    if model is None or model.promoted_at is None or run.clock() - model.promoted_at > _RECENT:
        return []
    text = (
        f"{model.model_version} forecasts from now on: promoted {model.promoted_at:%Y-%m-%d}, trained through "
        f"{model.trained_through:%Y-%m-%d}"
    )
    name = f"promotion {model.model_version} {model.promoted_at:%Y-%m-%dT%H:%M:%S}"
    return [Message("promotion", f"nextday {run.name}: a new champion", (Event(name, text),))]


def describe_decay(run: Run, findings: Sequence[tuple[str, str]]) -> list[Message]:
    """Describe what the decay alarm says of the live record.

    Args:
        run: The run.
        findings: For each output that is not as expected: a name that changes when the finding does, and the sentence.
    """
    if not findings:
        return []
    events = tuple(Event(f"decay {name}", text) for name, text in findings)
    return [Message("decay", f"nextday {run.name}: the live record", events)]
