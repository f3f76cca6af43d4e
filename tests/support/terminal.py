"""A real pseudo-terminal of a given width, and what a person sees in it."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["Screen", "run_in_terminal", "shown_by"]

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
