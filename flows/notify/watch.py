"""Watch a run: the heartbeat at its start and its end, and word of its failure. None of it can fail the run.

The heartbeat is that of the nightly runs: a training that pinged it as well would hide an evening that never began.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from flows.notify.messages import describe_trouble
from flows.notify.news import Notifier, open_notifier
from flows.runtime.progress import log_line
from pipeline.errors import NextdayError, printable

__all__ = ["NIGHTLY", "watched"]

NIGHTLY: Final = "nightly"
"""The flow whose runs ping the heartbeat."""


@contextmanager
def watched(flow: str, config: Path | None, home: Path | None, now: datetime | None) -> Iterator[None]:
    """Ping the heartbeat before and after the block, and tell of an error that ends it.

    A run with a given clock is no evening: it pings nobody and tells nothing. A run that is killed or interrupted
    sends no further ping, which is what the monitor notices.

    Args:
        flow: The flow's name.
        config: The configuration file of the run.
        home: Its workspace.
        now: Its clock.
    """
    notifier = _open(config, home) if now is None else None
    if notifier is None:
        yield
        return
    beat = notifier.beat if flow == NIGHTLY else _keep_still
    _safely(lambda: beat("start"))
    try:
        yield
    except Exception as error:
        failure = error  # `error` ends with this clause
        _safely(lambda: _tell_failure(notifier, beat, flow, failure))
        raise
    _safely(lambda: beat("success", "exit code 0"))


def _open(config: Path | None, home: Path | None) -> Notifier | None:
    """Return whom to tell; None where that is nobody, or where the settings cannot be read, as the flow itself says."""
    try:
        notifier = open_notifier(config, home)
    except NextdayError:
        return None
    return notifier if notifier.settings.to or notifier.settings.heartbeat else None


def _keep_still(state: str, text: str = "") -> None:
    """Ping nobody."""


def _tell_failure(notifier: Notifier, beat: Callable[..., None], flow: str, error: Exception) -> None:
    what = getattr(error, "what", "") or f"{type(error).__name__}: {error}"
    details = str(error) or type(error).__name__
    beat("fail", f"exit code {getattr(error, 'exit_code', 1)}\n{printable(details)}")
    today = notifier.clock().date()
    notifier.send([describe_trouble(notifier.universe, flow, today, what, details)])


def _safely(work: Callable[[], None]) -> None:
    """Call `work`; an error is logged by its name alone, for its text may contain an address."""
    try:
        work()
    except Exception as error:
        log_line(
            f"the heartbeat or a message failed: {error if isinstance(error, NextdayError) else type(error).__name__}"
        )
