"""Progress of long work: rich bars in a terminal, log lines elsewhere."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Protocol
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException
from prefect.logging import get_run_logger
from rich.console import Console

from flows.runtime.progress_bars import Advance, draw_bar
from flows.runtime.wrapping import wrap_words

__all__ = [
    "PREFECT_ERRORS",
    "Advance",
    "PlainProgress",
    "ProgressView",
    "TerminalProgress",
    "bar",
    "log_line",
    "log_quietly",
    "progress_shown_by",
    "show_progress",
]

PREFECT_ERRORS = (httpx.HTTPError, PrefectException)
"""Raised by Prefect's client where the server is not reachable: no reason to lose the run's work."""

_UPDATE_SECONDS = 2.0
"""Seconds between two updates of the progress in Prefect's UI; shorter work is not shown there."""


class ProgressView(Protocol):
    """Shows log lines and progress bars."""

    def log_line(self, line: str) -> None:
        """Show a line."""
        ...

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Advance]:
        """Show the progress of `total` units of work."""
        ...


class PlainProgress:
    """Shows lines only: for scheduled runs, pipes and tests.

    Args:
        console: Where the lines are printed besides the log; None: nowhere.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console

    def log_line(self, line: str) -> None:
        """Log the line in the flow run, or with the logger `nextday` outside of one."""
        if self.console:
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)
        _logger().info(line)

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Advance]:
        """Log a line after every quarter of the work."""
        done, every = 0, max(total // 4, 1)

        def advance(note: str) -> None:
            nonlocal done
            done += 1
            if done % every == 0 or done == total:
                self.log_line(f"{title}: {done} of {total}  {note}")

        yield advance


class TerminalProgress(PlainProgress):
    """Shows lines and rich progress bars."""

    def log_line(self, line: str) -> None:
        """Show the line, broken between words, and log it."""
        assert self.console is not None
        text = wrap_words(line, self.console.width)
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
        _logger().info(line)

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Advance]:
        """Draw a bar."""
        assert self.console is not None
        with draw_bar(self.console, title, total) as advance:
            yield advance


_view: ContextVar[ProgressView] = ContextVar("progress_view", default=PlainProgress())  # noqa: B039 -- it has no state


@contextmanager
def progress_shown_by(view: ProgressView) -> Iterator[None]:
    """Show the lines and bars of the block with `view`."""
    token = _view.set(view)
    try:
        yield
    finally:
        _view.reset(token)


@contextmanager
def show_progress() -> Iterator[None]:
    """Show the lines and bars of the block on standard error: bars only in a terminal."""
    console = Console(stderr=True)
    with progress_shown_by(TerminalProgress(console) if console.is_terminal else PlainProgress(console)):
        yield


def log_line(line: str) -> None:
    """Show a line in the current view, and log it."""
    _view.get().log_line(line)


def log_quietly(line: str) -> None:
    """Log a line without showing it on the terminal."""
    _logger().info(line)


@contextmanager
def bar(title: str, total: int) -> Iterator[Advance]:
    """Show the progress of `total` units of work in the current view and in Prefect's UI."""
    artifact = _ProgressArtifact(title, total)
    with _view.get().bar(title, total) as advance:

        def step(note: str) -> None:
            advance(note)
            artifact.step(note)

        yield step


class _ProgressArtifact:
    """A progress artifact of the flow run, created once the work takes longer than _UPDATE_SECONDS."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._done = title, total, 0
        self._updated = time.monotonic()
        self._artifact: UUID | None = None

    def step(self, note: str) -> None:
        self._done += 1
        is_last = self._done == self._total and self._artifact is not None
        if FlowRunContext.get() and (is_last or time.monotonic() - self._updated >= _UPDATE_SECONDS):
            self._updated = time.monotonic()
            with suppress(*PREFECT_ERRORS):
                self._publish(f"{self._title}: {self._done} of {self._total}  {note}")

    def _publish(self, description: str) -> None:
        percent = min(100.0 * self._done / self._total, 100.0)
        if self._artifact is None:
            made = create_progress_artifact(percent, description=description)
            assert isinstance(made, UUID)
            self._artifact = made
        else:
            update_progress_artifact(self._artifact, progress=percent, description=description)


def _logger() -> "logging.Logger | logging.LoggerAdapter[logging.Logger]":
    return get_run_logger() if FlowRunContext.get() else logging.getLogger("nextday")
