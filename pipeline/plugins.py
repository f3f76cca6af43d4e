"""Code of the user's own, named `package.module:Name` in the settings: found, told by digest, its errors in words."""

import difflib
import importlib
import math
import os
import re
import sys
import traceback
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError

__all__ = [
    "RIVALS",
    "SECRET_NAME",
    "ExtensionPoint",
    "as_read_only",
    "describe_error",
    "digest_code",
    "find_code",
    "is_custom_code",
    "plain_options",
]


@dataclass(frozen=True)
class ExtensionPoint:
    """Where somebody's own code is named.

    Attributes:
        where: The setting, as messages name it.
        page: What shows a whole one.
    """

    where: str
    page: str

    def refuse(self, what: str, fix: str) -> ConfigError:
        """Return the error that says why what is named there cannot be used."""
        return ConfigError(what, where=self.where, fix=fix)


def find_code(place: str, folder: Path, seam: ExtensionPoint) -> Any:
    """Return what `package.module:Name` names.

    `folder` becomes the last place that Python looks for modules in, and stays it: the code may import its
    neighbours at any time.

    Args:
        place: The module and the name in it.
        folder: Where nextday.toml lies.
        seam: Where it is named.

    Raises:
        ConfigError: there is no such module or name, or the module fails.
    """
    module, _, name = place.partition(":")
    imported = _import(module, folder, seam)
    found = getattr(imported, name, None)
    if found is None:
        near = difflib.get_close_matches(name, dir(imported), n=1)
        hint = f"did you mean {near[0]!r}?" if near else "fix the part behind the colon"
        raise seam.refuse(f"{module} has no {name!r} in it", hint)
    return found


def digest_code(place: str, folder: Path, seam: ExtensionPoint) -> str:
    """Return the first 16 hex digits of the sha256 of the file that the module of `place` was imported from.

    Modules that it imports are not in it.

    Raises:
        ConfigError: there is no such module, or it has no file.
    """
    module = place.partition(":")[0]
    read = _READ.get(_import(module, folder, seam))
    if not read:
        raise seam.refuse(
            f"{module} has no file, so nobody can tell which code it is", "name a module with one"
        )
    return read


def as_read_only(array: NDArray[np.generic]) -> NDArray[Any]:
    """Return the array as whoever is handed it may read it, and not write into it."""
    view = array.view()
    view.flags.writeable = False
    return view


def describe_error(error: BaseException, but: Collection[str] = ()) -> str:
    """Return an error of somebody else's code on one line: its kind, its text without secrets, its place.

    Args:
        error: What was raised.
        but: Files of ours, which are no place for whoever wrote the code.
    """
    text = re.sub(r"\?[^\s'\"<>)]+", "?...", " ".join(str(error).split()))
    text = re.sub(r"//[^/@\s]+@", "//...@", text)
    for variable, value in os.environ.items():
        if len(value) >= 6 and SECRET_NAME.search(variable):
            text = text.replace(value, "...")
    return f"{type(error).__name__}{': ' * bool(text)}{text:.200}{_place(error, but)}"


_READ: Final[WeakKeyDictionary[ModuleType, str]] = WeakKeyDictionary()
"""The digest of each module's file as it was when it was imported: later edits of the file are not what runs."""


def _import(module: str, folder: Path, seam: ExtensionPoint) -> ModuleType:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    importlib.invalidate_caches()
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise seam.refuse(
                f"{module} cannot be imported: {describe_error(error)}", "install what it needs"
            ) from None
        raise seam.refuse(
            f"There is no module {error.name!r}",
            f"lay it into {folder}, or install it beside nextday; {seam.page}",
        ) from None
    except (Exception, SystemExit) as error:
        raise seam.refuse(f"{module} cannot be imported: {describe_error(error)}", "fix it") from None
    _require_neighbour(found, module, folder, seam)
    if found not in _READ:
        file = getattr(found, "__file__", None)
        _READ[found] = sha256(Path(file).read_bytes()).hexdigest()[:16] if file else ""
    return found


def _require_neighbour(found: ModuleType, module: str, folder: Path, seam: ExtensionPoint) -> None:
    """Refuse a module that hides the one beside nextday.toml."""
    top = folder / module.partition(".")[0]
    is_beside = top.with_suffix(".py").is_file() or (top / "__init__.py").is_file()
    file = getattr(found, "__file__", None)
    if is_beside and file and not Path(file).resolve().is_relative_to(folder.resolve()):
        raise seam.refuse(f"Python finds another {module!r} before yours: {file}", f"rename that in {folder}")


def _place(error: BaseException, but: Collection[str]) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = {__file__, importlib.__file__, *but}
    theirs = [f for f in frames if f.filename not in ours and f.filename[0] != "<"]
    if not theirs or isinstance(error, SyntaxError):
        return ""
    last = [frame for frame in theirs if frame.filename == theirs[0].filename][-1]
    return f" ({Path(last.filename).name}, line {last.lineno})"


RIVALS: Final = frozenset(
    {
        *("always_up", "base_rate", "last_sign", "reversal", "momentum", "logistic_regression"),
        *("gradient_boosting", "logistic_without_universe", "best_before"),
    }
)
"""Names that stand beside the model's in every table."""
SECRET_NAME: Final = re.compile(r"password|passwd|secret|token|api_?key", re.IGNORECASE)
_OWN_CODE: Final = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*:[A-Za-z_]\w*", re.ASCII)


def is_custom_code(name: str) -> bool:
    """Return whether a name is one of the user's own code, `package.module:Name`."""
    return bool(_OWN_CODE.fullmatch(name))


def plain_options(options: object, *, with_lists: bool = False) -> object:
    """Return what own code is made with: a table of names and plain values, none of them a secret.

    Args:
        options: As it was written.
        with_lists: Whether a value may be a list of plain values too.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(options, dict):
        raise ValueError("write a table, such as { table = 'bars' }")
    for name, value in options.items():
        if SECRET_NAME.search(name) or re.search(r"://[^/\s]*@", str(value)):
            raise ValueError(
                f"{name} looks like a secret, and settings are kept: let the code read it from the environment"
            )
        values = value if with_lists and isinstance(value, list) else [value]
        if not name.isidentifier() or not all(map(_is_plain, values)):
            raise ValueError(
                f"{name}: a name takes text, a number (a finite one), true or false{', or a list of them' * with_lists}"
            )
    return options


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
