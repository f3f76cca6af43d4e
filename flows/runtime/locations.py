"""Where the settings and the workspace are, if nobody says."""

import errno
import os
from pathlib import Path
from typing import Final

from pipeline.errors import InputError, quoted
from pipeline.storage.paths import expand

__all__ = [
    "PROJECT",
    "SETTINGS",
    "SHIPPED",
    "absolute_path",
    "default_config",
    "default_home",
    "install_command",
]

PROJECT: Final = Path(__file__).resolve().parents[2]
"""The folder that holds nextday's packages: the checkout, or the site-packages of an installed nextday."""

_INSTALLED: Final = PROJECT / "flows" / "shipped"

SHIPPED: Final = _INSTALLED if _INSTALLED.is_dir() else PROJECT
"""The folder with the nextday.toml, the prefect.yaml and the data/universes that nextday comes with: the checkout, or
the copy of them that the build puts into a wheel."""

SETTINGS: Final = "nextday.toml"
"""The name of the settings file."""


def absolute_path(path: Path) -> Path:
    """Return the absolute path without symbolic links; a loop of links is left in, reading it fails later.

    Raises:
        InputError: no file can have so long a name.
    """
    found = Path(os.path.realpath(path))
    try:
        found.lstat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(
                f"This path is too long: {len(os.fsencode(found)):,} bytes",
                where=quoted(found),
                fix="name another one: most disks take 255 bytes a name, and 4,096 in all",
            ) from None
    return found


def default_config() -> Path:
    """Return the nextday.toml of the current folder or of the nearest one above it that has one.

    Settings can name code to run: above the current folder, a file of another user (but root) does not count. Without
    one it is NEXTDAY_CONFIG, and last the file of the checkout, also for who stands in the checkout. An installed
    nextday has no folder of its own for a workspace: there it is last the file that the current folder lacks.
    """
    shipped = SHIPPED / SETTINGS
    try:
        here = Path.cwd()
    except FileNotFoundError:  # somebody has removed it
        here = SHIPPED
    for folder in (here, *here.parents):
        found = folder / SETTINGS
        if (
            found != shipped
            and found.is_file()
            and (folder == here or found.stat().st_uid in (os.getuid(), 0))
        ):
            return found
    last = shipped if SHIPPED == PROJECT else here / SETTINGS
    return expand(os.environ.get("NEXTDAY_CONFIG") or last)


def default_home(config: Path) -> Path:
    """Return NEXTDAY_HOME, or data/ next to the settings file."""
    return expand(os.environ.get("NEXTDAY_HOME") or absolute_path(config).parent / "data")


def install_command(extra: str) -> str:
    """Return the command that installs an extra of nextday where this nextday is installed."""
    if SHIPPED == PROJECT:
        return (
            f"in the checkout: .venv/bin/pip install --constraint requirements.lock --editable '.[{extra}]'"
        )
    return f"pip install 'nextday[{extra}]' (or: uv tool install, pipx install --force; as nextday was installed)"
