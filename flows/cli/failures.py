"""What ended a command: a signal, or an error that nobody expected."""

import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from flows.runtime.wrapping import wrap_words

if TYPE_CHECKING:
    from pipeline.errors import NextdayError

__all__ = ["describe_unexpected", "echo_wrapped", "end_by", "ended_by_signals", "find_cause"]

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl+C, the end that a service manager asks for, and a closed terminal."""

_PATIENCE = 4.0
"""Seconds that a command gets to clear up after such a signal."""

_SHOW_CURSOR = b"\r\x1b[K\x1b[?25h"
"""Removes the rest of a progress bar, and shows the terminal's cursor that the bar hid."""


def echo_wrapped(text: str) -> None:
    """Print to standard error; in a terminal, lines are broken between words."""
    if sys.stderr.isatty():
        text = wrap_words(text, os.get_terminal_size(sys.stderr.fileno()).columns or 80)
    typer.echo(text, err=True)


@contextmanager
def ended_by_signals() -> Iterator[Callable[[], int]]:
    """Let Ctrl+C, SIGTERM and SIGHUP interrupt the block, and end the process where it has not ended soon after.

    Python raises KeyboardInterrupt in the main thread, once that runs Python code. It may instead wait for another
    thread, be in a library that swallows exceptions, or wait for a server that gets the same signal. So the system
    also writes each signal into a socket, where a thread waits for it. Signals ignored before, as by nohup, still are.

    Yields:
        A function that returns the first such signal received, 0 for none.
    """
    waits, told = socket.socketpair()
    told.setblocking(False)
    former: dict[int, Any] = {}
    hooks: list[Callable[[Any], object]] = [sys.unraisablehook, threading.excepthook]

    def find() -> int:
        with suppress(BlockingIOError):
            received = waits.recv(4096, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            return next((number for number in received if number in _ENDING), 0)
        return 0

    def silenced(hook: Callable[[Any], object]) -> Callable[[Any], object]:
        return lambda error: None if find() else hook(error)  # the signal has caused what fails now

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        for each in former:
            signal.signal(each, signal.SIG_IGN)  # a second Ctrl+C would interrupt the clearing up
        raise KeyboardInterrupt

    for number in _ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:
            former[number] = signal.signal(number, interrupt)
    wakeup = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    sys.unraisablehook, threading.excepthook = (silenced(hook) for hook in hooks)
    is_over = threading.Event()
    threading.Thread(target=_end_late, args=(waits, is_over), daemon=True).start()
    try:
        yield find
    finally:
        is_over.set()
        signal.set_wakeup_fd(wakeup)
        for each, handler in former.items():
            signal.signal(each, handler)
        sys.unraisablehook, threading.excepthook = hooks
        told.close()


def _end_late(waits: socket.socket, is_over: threading.Event) -> None:
    """Wait for a signal that ends the process, give it time, and then end it from this thread."""
    with waits:
        while received := waits.recv(1, socket.MSG_PEEK):
            if received[0] in _ENDING and not is_over.wait(_PATIENCE):
                _end_at_once(received[0])
            waits.recv(1)


def _end_at_once(number: int) -> None:
    from pipeline.storage.files import remove_claimed

    remove_claimed()
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), _SHOW_CURSOR)
    os._exit(128 + number)


def end_by(number: int) -> NoReturn:
    """End the process as the signal asks: of Ctrl+C with exit code 130, of another one by its default action.

    Other threads are not waited for, nor what is registered for the end of the process: Prefect's temporary server
    ends with this process, and so do training processes.
    """
    from pipeline.storage.files import remove_claimed

    remove_claimed()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    if number == signal.SIGINT:
        os._exit(130)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # the first process of a container ignores a signal's default action


def find_cause(error: Exception) -> Exception:
    """Return the error that names Prefect's settings, if Prefect failed and cannot read them; else the error itself.

    Prefect reads them as it is imported, which many commands do somewhere.
    """
    if any("prefect" in Path(frame.filename).parts for frame in traceback.extract_tb(error.__traceback__)):
        from flows.runtime.prefect_settings import require_settings
        from pipeline.errors import ConfigError

        try:
            require_settings()
        except ConfigError as cause:
            return cause
    return error


def describe_unexpected(error: Exception) -> "NextdayError":
    """Describe an error of the program itself: where it was raised, and how to see the traceback."""
    from pipeline.errors import NextdayError

    last = traceback.extract_tb(error.__traceback__)[-1]
    return NextdayError(
        f"Unexpected error: {type(error).__name__}: {error}",
        where=f"{last.filename}, line {last.lineno}",
        fix="run the same command with nextday --debug to see the whole traceback",
    )
