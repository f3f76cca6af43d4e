"""Tell the news of a run: each event once to each address, after everything is sealed and reported."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Final

import pandas as pd

from flows.notify.addresses import deliver
from flows.notify.heartbeat import Signal, ping
from flows.notify.messages import (
    Event,
    Message,
    compose,
    describe_evening,
    describe_promotion,
    describe_quarantine,
)
from flows.notify.sent_log import SentLog
from flows.runtime.context import Run
from flows.runtime.locations import absolute_path, default_config, default_home
from flows.runtime.progress import log_line
from models.ensembles.model_files import model_version
from pipeline.config_file import load
from pipeline.errors import NextdayError
from pipeline.ledger.ledger import UniverseRecord
from pipeline.notify_config import NotifyConfig
from pipeline.prices.ingest.fetch_log import QuarantineEntry
from pipeline.storage.workspace import Workspace
from pipeline.tracking.registry import Registry

__all__ = ["Notifier", "list_news", "notifier_of", "open_notifier", "tell"]

_MOST_PAST: Final = 5
"""Earlier evenings that are told late: more are no news any more."""


@dataclass(frozen=True)
class Notifier:
    """Whom to tell about a universe, and what they were told.

    Attributes:
        settings: The section [notify].
        workspace: Where the log of what was sent is.
        universe: The universe's name.
        clock: The clock: attempts are written down with their time.
    """

    settings: NotifyConfig
    workspace: Workspace
    universe: str
    clock: Callable[[], datetime]

    @cached_property
    def log(self) -> SentLog:
        """What was sent to whom."""
        lock = self.workspace.home / "locks" / f"{self.universe}.notifications.lock"
        return SentLog(self.workspace.notifications(self.universe), lock)

    def send(self, messages: Sequence[Message]) -> None:
        """Send what each address has not received yet; what goes wrong is logged and noted for the doctor.

        An attempt is noted right after it: a run that is killed in between sends that message again.
        """
        for message in messages:
            is_told = any(self.log.is_begun(event.name) for event in message.events)
            if message.kind not in self.settings.what or (message.is_past and is_told):
                continue
            for address in self.settings.to:
                fresh = [event for event in message.events if not self.log.is_sent(event.name, address)]
                if fresh:
                    self._send_one(address, message, fresh)

    def _send_one(self, address: str, message: Message, events: list[Event]) -> None:
        text = compose(message, events, self.settings, self.workspace)
        problem = deliver(address, message.title, text, message.files(self.settings))
        if problem:
            log_line(f"not sent to {address}: {message.title}: {problem}")
        for event in events:
            self.log.note(event.name, address, self.clock(), problem)

    def test(self) -> dict[str, str]:
        """Send a test message to each address; return what went wrong by address, empty where it was sent."""
        problems = {}
        for address in self.settings.to:
            title = f"nextday {self.universe}: test"
            problems[address] = deliver(address, title, "This is how nextday writes to you.")
            self.log.note("", address, self.clock(), problems[address])
        return problems

    def beat(self, signal: Signal, text: str = "") -> None:
        """Ping the heartbeat, if there is one, and note how that went."""
        name = self.settings.heartbeat
        if not name:
            return
        problem = ping(name, signal, text)
        if problem:
            log_line(f"the heartbeat {name} was not sent: {problem}")
        self.log.note("", f"heartbeat {name}", self.clock(), problem)


def notifier_of(run: Run) -> Notifier:
    """Return whom to tell about the run's universe."""
    return Notifier(run.config.notify, run.workspace, run.name, run.clock)


def open_notifier(config: Path | None, home: Path | None) -> Notifier:
    """Return whom to tell about a universe of which only the settings can be read.

    Raises:
        ConfigError: they cannot be read.
        InputError: the workspace cannot be used.
        NextdayError: a newer nextday made the workspace.
    """
    path = absolute_path(config or default_config())
    settings = load(path)
    workspace = Workspace(absolute_path(home or default_home(path)))
    if settings.notify.to or settings.notify.heartbeat:
        workspace.create()
    return Notifier(settings.notify, workspace, settings.universe.name, lambda: datetime.now(UTC))


def tell(run: Run, find: Callable[[], Sequence[Message]]) -> None:
    """Send the messages that `find` returns; an error is logged, never raised.

    A run with a given clock is no evening and tells nothing; without an address `find` is not called.
    """
    if run.is_simulated or not run.config.notify.to:
        return
    try:
        notifier_of(run).send(find())
    except NextdayError as error:
        log_line(f"not all news could be told or written down; the next run tries again: {error}")
    except Exception as error:  # its text may contain an address
        log_line(f"the messages could not be sent: {type(error).__name__}")


def list_news(run: Run, record: UniverseRecord, headline: str = "") -> list[Message]:
    """Return what an evening has to tell; `send` leaves out what was told before.

    Args:
        run: The run.
        record: The universe's record, with tonight's rows.
        headline: The verdict of tonight's report.
    """
    held = _list_quarantined(run)
    return [
        *_list_evenings(run, record, headline),
        *([describe_quarantine(run, held)] if held else []),
        *describe_promotion(run, Registry(run.workspace.home, model_version).serving(run.name)),
    ]


def _list_evenings(run: Run, record: UniverseRecord, headline: str) -> Iterator[Message]:
    """Yield the evenings that no run has told though their rows were sealed in time, and then tonight's."""
    rows, last = record.rows, record.last_as_of
    if told := notifier_of(run).log.events("evening"):
        targets = rows.groupby("as_of")["target_session"].min()
        untold = targets.index[(targets > pd.Timestamp(told[-1].split(" ")[1])).to_numpy()]
        live = rows[rows["as_of"].isin(untold) & (rows["kind"] == "live") & (rows["as_of"] != last)]
        for _, past in [*live.groupby("as_of")][-_MOST_PAST:]:
            yield describe_evening(run, past, is_past=True)
    if last is not None:
        yield describe_evening(run, record.forecasts(last), headline)


def _list_quarantined(run: Run) -> list[QuarantineEntry]:
    ids, held = {*run.universe.instruments.values()}, run.fetch_log.quarantined()
    return [entry for id_, entry in held.items() if id_ in ids and not entry.is_released]
