"""Open a page in the browser once its server answers: in a process of its own, beside the server."""

import os
import subprocess
import sys
import time
import webbrowser
from contextlib import suppress
from urllib.request import ProxyHandler, build_opener

__all__ = ["has_screen", "open_later", "open_when_served"]

_PATIENCE = 120.0
"""Seconds that the server gets to start."""


def has_screen() -> bool:
    """Return whether a person at a graphical desktop started this command, not a service or a remote shell."""
    return sys.stdout.isatty() and bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def open_later(url: str) -> None:
    """Start a process that opens the page when it is served, and ends."""
    nothing = subprocess.DEVNULL
    command = [sys.executable, "-m", __name__, url]
    subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)


def open_when_served(url: str, patience: float = _PATIENCE) -> bool:
    """Wait until the page is served, open it in the browser, and return whether a browser was found in time."""
    ask, end = build_opener(ProxyHandler({})).open, time.monotonic() + patience
    while time.monotonic() < end:
        with suppress(OSError), ask(url, timeout=10):
            return webbrowser.open(url)
        time.sleep(0.5)
    return False


if __name__ == "__main__":
    sys.exit(not open_when_served(sys.argv[1]))
