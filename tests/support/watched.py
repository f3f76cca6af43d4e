"""Processes that report their actions (sockets, name look-ups, pickles that name code), and traps for them.

They tell Python's audit events: a socket that compiled code (libcurl, TensorFlow, Rust) opens by itself raises none.
`WATCH` goes into a folder as sitecustomize.py; with that folder on PYTHONPATH, a process and all its children report.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECRET = "s3cr3t-marker"

WATCH = """
import os, sys

_told = os.open(os.environ["WATCH_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def _tell(event, args):
    if event == "pickle.find_class":
        os.write(_told, f"pickle {args[0]}.{args[1]}\\n".encode())
    elif event in ("socket.bind", "socket.connect", "socket.sendto"):
        os.write(_told, f"{event} {args[1]!r}\\n".encode())
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        os.write(_told, f"look-up {args[0]!r}\\n".encode())

sys.addaudithook(_tell)
"""


def watched_environment(folder: Path, **variables: str) -> dict[str, str]:
    """Return an environment without Prefect's and proxies' variables, whose Python processes report to `folder`."""
    (folder / "hook").mkdir(exist_ok=True)
    (folder / "hook" / "sitecustomize.py").write_text(WATCH)
    (folder / "home").mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    for name in ("DO_NOT_TRACK", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        kept.pop(name, None)
    own = {"PYTHONPATH": str(folder / "hook"), "WATCH_LOG": str(folder / "log"), "HOME": str(folder / "home")}
    return kept | own | variables


def told_by(folder: Path) -> set[str]:
    """Return the distinct reports of the processes."""
    log = folder / "log"
    return set(log.read_text().splitlines()) if log.exists() else set()


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.sprung),)


def holding(secret: str, *folders: Path) -> list[Path]:
    """Return the files that contain the text."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return [path for path in files if secret.encode() in path.read_bytes()]
