"""What every command is told before its name, and how words of the command line become paths, days and times."""

from dataclasses import dataclass
from datetime import date, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from pipeline.storage.workspace import Workspace

__all__ = [
    "Place",
    "flow_arguments",
    "parse_date",
    "parse_path",
    "parse_time",
    "place",
    "require_folder",
    "require_optuna",
]


@dataclass
class Place:
    """The options that stand before a command: one command line is one process, and has one of these."""

    config: Path | None = None
    home: Path | None = None
    now: datetime | None = None
    debug: bool = False

    def workspace(self) -> "Workspace":
        """Return the workspace that these options name, whether there is one or not."""
        from flows.runtime.context import absolute_path, default_config, default_home
        from pipeline.storage.workspace import Workspace

        return Workspace(absolute_path(self.home or default_home(self.config or default_config())))


place = Place()


def flow_arguments() -> dict[str, Any]:
    """Return what every flow asks for; a wrong setting is told now, and not after the start of a server."""
    from flows.runtime.context import absolute_path, default_config
    from pipeline.config import load

    load(absolute_path(place.config or default_config()))
    return {"config": place.config, "home": place.home, "now": place.now}


def parse_path(text: str) -> Path:
    """Return the path that a text names."""
    # An unset variable in a script would mean the current folder.
    if not text.strip():
        raise typer.BadParameter("the path is empty; write . for this folder")
    return Path(text)


def require_folder(file: Path, option: str) -> None:
    """Refuse a file to write whose folder is not there, or that is a folder itself."""
    if file.is_dir() or not file.parent.is_dir():
        wrong = f"{file} is a folder" if file.is_dir() else f"there is no folder {file.parent}"
        raise typer.BadParameter(f"{wrong}; name a file in a folder that is there", param_hint=option)


def require_optuna() -> None:
    """Refuse to search without the package that does it, which is installed on request only."""
    from pipeline.errors import InputError

    if find_spec("optuna") is None:
        raise InputError(
            "A search needs Optuna, which is not installed",
            where="the extra `search` of nextday",
            fix="in the checkout: .venv/bin/pip install --constraint requirements.lock --editable '.[search]'",
        )


def parse_time(text: str, option: str) -> datetime | None:
    """Return the time that a text names, None where it is empty; a bare date is its end."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time; write 2018-12-10 or 2018-12-10T22:00Z", param_hint=option
        ) from None
    return moment.replace(hour=23, minute=59) if len(text) <= len("2018-12-10") else moment


def parse_date(text: str, option: str = "SESSION") -> date:
    """Return the day that a text names."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no date; write 2018-12-31", param_hint=option) from None
