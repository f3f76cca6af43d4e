"""A real pseudo-terminal of a given width, and what a person sees in it."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["Screen", "Session", "run_in_terminal", "shown_by"]

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Screen(NamedTuple):
    """How a program ended, and the lines that it wrote, one for every time that it drew a line."""

    code: int
    lines: list[str]

    @property
    def text(self) -> str:
        """All words, each after one space: how they were broken into lines does not matter."""
        return " ".join(" ".join(self.lines).split())


def run_in_terminal(
    command: Sequence[str],
    *,
    columns: int,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Screen:
    """Run a program in a terminal, until it ends.

    Args:
        command: The program and its arguments.
        columns: The terminal's width.
        folder: Where it runs; default: here.
        environment: Its variables; default: those of this process.
    """
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    known = os.environ if environment is None else environment
    kept = {name: value for name, value in known.items() if name not in ("COLUMNS", "NO_COLOR")}
    with subprocess.Popen(
        command,
        stdin=its,
        stdout=its,
        stderr=its,
        cwd=folder,
        env=kept | {"TERM": "xterm-256color"},
        start_new_session=True,
    ) as process:
        os.close(its)
        written = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    lines = re.split(r"[\r\n]+", _CONTROL.sub("", written.decode()))
    return Screen(process.returncode, [line for line in lines if line.strip()])


def shown_by(code: str, *, columns: int) -> list[str]:
    """Return the lines that a Python program writes to a terminal, one for every time that it draws a line."""
    return run_in_terminal([sys.executable, "-c", code], columns=columns).lines


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux's way to say that nobody holds its other end any more
        return b""


class Session:
    """A program at the keyboard of a terminal of its own, whose keys it gets and whose closing it is told of.

    Args:
        command: The program and its arguments.
        environment: Its variables; default: those of this process.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._keyboard, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
        self._written = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", _AT_KEYBOARD, *command],
            stdin=its,
            stdout=its,
            stderr=its,
            env=dict(os.environ if environment is None else environment) | {"TERM": "xterm-256color"},
            start_new_session=True,
        )
        os.close(its)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def written(self) -> str:
        """What it has written so far, without what moves the cursor."""
        return _CONTROL.sub("", self._written.decode(errors="replace"))

    @property
    def has_cursor(self) -> bool:
        """Whether the terminal shows its cursor."""
        return self._written.rfind(b"\x1b[?25h") >= self._written.rfind(b"\x1b[?25l")

    def shows(self, text: str, seconds: float = 300) -> bool:
        """Wait until it has written the text; False if it ended without it."""
        end = time.monotonic() + seconds
        while text not in self.written:
            if self.process.poll() is not None:
                return text in self.written
            assert time.monotonic() < end, f"{text!r} did not come: {self.written}"
            time.sleep(0.01)
        return True

    def press(self, keys: bytes) -> None:
        """Type keys."""
        os.write(self._keyboard, keys)

    def end(self, seconds: float) -> tuple[int, float]:
        """Wait for its end; return its exit code as a shell shows it, and the seconds it took."""
        started = time.monotonic()
        try:
            code = self.process.wait(seconds)
        finally:
            self.process.kill()
            self._reader.join(5)
            os.close(self._keyboard)
        return code if code >= 0 else 128 - code, time.monotonic() - started

    def _read(self) -> None:
        while found := _read(self._keyboard):
            self._written += found


_AT_KEYBOARD = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
