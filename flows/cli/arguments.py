"""The options that every command shares, and the parsers of paths, dates and times."""

from dataclasses import dataclass
from datetime import date, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

if TYPE_CHECKING:
    from pipeline.storage.workspace import Workspace
    from pipeline.storage_config import StorageConfig

__all__ = [
    "GlobalOptions",
    "flow_arguments",
    "options",
    "parse_date",
    "parse_path",
    "parse_time",
    "put_options_first",
    "require_folder",
    "require_one_file",
    "require_optuna",
    "show_version",
]


@dataclass
class GlobalOptions:
    """The options that every command shares; each process has one instance."""

    config: Path | None = None
    home: Path | None = None
    now: datetime | None = None
    debug: bool = False

    def workspace(self) -> "Workspace":
        """Return the workspace at the given path, whether it exists or not."""
        from pipeline.storage.workspace import Workspace

        return Workspace(self.folder())

    def whole_workspace(self) -> "Workspace":
        """Return the workspace with the place of its ledger, as the settings say it."""
        return self.workspace().with_ledger(self.storage().ledger)

    def storage(self) -> "StorageConfig":
        """Return [storage] of the settings; all in the workspace where there are none."""
        from pipeline.config_file import load
        from pipeline.storage_config import StorageConfig

        return load(self.settings()).storage if self.settings().exists() else StorageConfig()

    def folder(self) -> Path:
        """Return the absolute path of the workspace, whether it exists or not."""
        from flows.runtime.locations import absolute_path, default_home

        return absolute_path(self.home or default_home(self.settings()))

    def settings(self) -> Path:
        """Return the absolute path of the settings file, whether it exists or not."""
        from flows.runtime.locations import absolute_path, default_config

        return absolute_path(self.config or default_config())


options = GlobalOptions()

_SHARED: Final = ("--config", "--home", "--now")
"""Shared options with a value."""


def put_options_first(arguments: list[str]) -> list[str]:
    """Return the arguments of the command line with the shared options, wherever they stand, before the command."""
    first: list[str] = []
    rest: list[str] = []
    left = iter(arguments)
    for argument in left:
        name, is_whole, _ = argument.partition("=")
        if argument == "--":
            rest += [argument, *left]
        elif argument == "--debug" or (name in _SHARED and is_whole):
            first.append(argument)
        elif argument in _SHARED:
            value = next(left, None)
            if value is None:
                return [argument]  # refused: it lacks its value, and must not take the command for one
            first += [argument, value]
        else:
            rest.append(argument)
    return first + rest


def flow_arguments() -> dict[str, Any]:
    """Return the arguments of every flow, after checking the settings: an error is raised before a server starts."""
    from pipeline.config_file import load

    load(options.settings())
    return {"config": options.config, "home": options.home, "now": options.now}


def parse_path(text: str) -> Path:
    """Return the path with ~ and variables filled in.

    An empty text is refused: an unset variable in a script would mean the current folder.
    """
    from pipeline.storage.paths import expand

    if not text.strip():
        raise typer.BadParameter("the path is empty; write . for this folder")
    return expand(text)


def require_folder(file: Path, option: str) -> None:
    """Refuse an output file whose folder does not exist, or which is a folder itself."""
    if file.is_dir() or not file.parent.is_dir():
        problem = f"{file} is a folder" if file.is_dir() else f"there is no folder {file.parent}"
        raise typer.BadParameter(f"{problem}; give a file in an existing folder", param_hint=option)


def require_one_file(csv: Path | None, parquet: Path | None) -> Path:
    """Return the file of --csv or --parquet, of which one must be given; only CSV can go to standard output."""
    if csv is not None and parquet is None:
        require_folder(csv, "--csv")
        return csv
    if parquet is not None and csv is None:
        if str(parquet) == "-":
            raise typer.BadParameter(
                "only CSV can go to standard output; give a file", param_hint="--parquet"
            )
        require_folder(parquet, "--parquet")
        return parquet
    raise typer.BadParameter("give one file, with --csv FILE or --parquet FILE")


def require_optuna() -> None:
    """Refuse to search without Optuna, which is an optional dependency."""
    from flows.runtime.locations import install_command
    from pipeline.errors import InputError

    if find_spec("optuna") is None:
        raise InputError(
            "A search needs Optuna, which is not installed",
            where="the extra `search` of nextday",
            fix=install_command("search"),
        )


def show_version(is_requested: bool) -> None:
    """Print the version and end, if the option asks for it."""
    if is_requested:
        from importlib.metadata import version

        typer.echo(f"nextday {version('nextday')}")
        raise typer.Exit


def parse_time(text: str, option: str) -> datetime | None:
    """Return the time, None for an empty text; a date alone means its last minute."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a time; write 2018-12-10 or 2018-12-10T22:00Z", param_hint=option
        ) from None
    return moment.replace(hour=23, minute=59) if len(text) <= len("2018-12-10") else moment


def parse_date(text: str, option: str = "SESSION") -> date:
    """Return the date."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a date; write 2018-12-31", param_hint=option) from None
