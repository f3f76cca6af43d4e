"""What a person sees of long work: rich bars in a terminal, quiet lines elsewhere."""

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
"""What Prefect's client raises where the server is away: no reason to lose an evening's work."""

_PAUSE = 2.0
"""Seconds between two looks of Prefect's at long work; shorter work is not shown there."""


class ProgressView(Protocol):
    """Somebody who looks on."""

    def log_line(self, line: str) -> None:
        """Take a line of the story."""
        ...

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Advance]:
        """Follow `total` units of work."""
        ...


class PlainProgress:
    """Lines only: a schedule's run, a pipe, a test.

    Args:
        console: Where they are printed too; None where the log is enough.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console

    def log_line(self, line: str) -> None:
        """Log the line in the flow run, or in our own logger outside of one."""
        if self.console:
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)
        _logger().info(line)

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Advance]:
        """Log the first, the last and every quarter of the work."""
        done, every = 0, max(total // 4, 1)

        def advance(note: str) -> None:
            nonlocal done
            done += 1
            if done % every == 0 or done == total:
                self.log_line(f"{title}: {done} of {total}  {note}")

        yield advance


class TerminalProgress(PlainProgress):
    """Lines, and bars that move."""

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Advance]:
        """Draw a bar."""
        assert self.console is not None
        with draw_bar(self.console, title, total) as advance:
            yield advance


_view: ContextVar[ProgressView] = ContextVar("watcher", default=PlainProgress())  # noqa: B039 -- Lines has no state


@contextmanager
def progress_shown_by(watcher: ProgressView) -> Iterator[None]:
    """Send the lines and bars of the block to `watcher`."""
    token = _view.set(watcher)
    try:
        yield
    finally:
        _view.reset(token)


@contextmanager
def show_progress() -> Iterator[None]:
    """Send the lines and bars of the block to standard error: bars only where somebody looks."""
    console = Console(stderr=True)
    with progress_shown_by(TerminalProgress(console) if console.is_terminal else PlainProgress(console)):
        yield


def log_line(line: str) -> None:
    """Tell whoever looks on."""
    _view.get().log_line(line)


def log_quietly(line: str) -> None:
    """Write a line into the log alone: it is not worth a reader's eye on a terminal."""
    _logger().info(line)


@contextmanager
def bar(title: str, total: int) -> Iterator[Advance]:
    """Show the progress of `total` units of work to whoever looks on, and in Prefect's pages."""
    shown = _Shown(title, total)
    with _view.get().bar(title, total) as advance:

        def step(words: str) -> None:
            advance(words)
            shown.step(words)

        yield step


class _Shown:
    """A progress artifact of the flow run, for work that takes longer than a look."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._done = title, total, 0
        self._seen = time.monotonic()
        self._artifact: UUID | None = None

    def step(self, words: str) -> None:
        self._done += 1
        is_last = self._done == self._total and self._artifact is not None
        if FlowRunContext.get() and (is_last or time.monotonic() - self._seen >= _PAUSE):
            self._seen = time.monotonic()
            with suppress(*PREFECT_ERRORS):
                self._show(f"{self._title}: {self._done} of {self._total}  {words}")

    def _show(self, words: str) -> None:
        percent = min(100.0 * self._done / self._total, 100.0)
        if self._artifact is None:
            made = create_progress_artifact(percent, description=words)
            assert isinstance(made, UUID)
            self._artifact = made
        else:
            update_progress_artifact(self._artifact, progress=percent, description=words)


def _logger() -> "logging.Logger | logging.LoggerAdapter[logging.Logger]":
    return get_run_logger() if FlowRunContext.get() else logging.getLogger("nextday")
