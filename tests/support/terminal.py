"""A real pseudo-terminal of a given width, and what a person sees in it."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

__all__ = ["shown_by"]

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def shown_by(code: str, *, columns: int) -> list[str]:
    """Return the lines that a Python program writes to a terminal, one for every time that it draws a line."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=its,
        stdout=its,
        stderr=its,
        env=environment | {"TERM": "xterm-256color"},
        start_new_session=True,
    ):
        os.close(its)
        written = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    return [line for line in re.split(r"[\r\n]+", _CONTROL.sub("", written.decode())) if line.strip()]


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux's way to say that nobody holds its other end any more
        return b""
