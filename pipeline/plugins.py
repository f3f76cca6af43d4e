"""Custom code, named `package.module:Name` in the settings: importing it, its digest, descriptions of its errors."""

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

from pipeline.errors import ConfigError, InputError

__all__ = [
    "BASELINE_NAMES",
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
    """A setting that may name custom code.

    Attributes:
        where: The setting, as messages name it.
        page: Which page of the documentation has a complete example.
    """

    where: str
    page: str

    def refuse(self, what: str, fix: str) -> ConfigError:
        """Return the error that explains why the named code cannot be used."""
        return ConfigError(what, where=self.where, fix=fix)

    def fail(self, what: str) -> InputError:
        """Return the error that explains what the code did wrong when it was called."""
        return InputError(what, where=self.where, fix=f"fix it; {self.page}")


def find_code(reference: str, folder: Path, point: ExtensionPoint) -> Any:
    """Import the object that `package.module:Name` refers to.

    `folder` is appended to `sys.path` for good, because the code may import modules of that folder at any time.

    Args:
        reference: The module and the name in it.
        folder: The folder of nextday.toml.
        point: The setting that names it.

    Raises:
        ConfigError: there is no such module or name, or the import fails.
    """
    module, _, name = reference.partition(":")
    imported = _import_module(module, folder, point)
    found = getattr(imported, name, None)
    if found is None:
        near = difflib.get_close_matches(name, dir(imported), n=1)
        hint = f"did you mean {near[0]!r}?" if near else "fix the part after the colon"
        raise point.refuse(f"{module} has no {name!r} in it", hint)
    return found


def digest_code(reference: str, folder: Path, point: ExtensionPoint) -> str:
    """Return the first 16 hex digits of the sha256 of the file that the referenced module was imported from.

    Modules that it imports are not covered.

    Raises:
        ConfigError: there is no such module, or it has no file.
    """
    module = reference.partition(":")[0]
    code = _DIGESTS.get(_import_module(module, folder, point))
    if not code:
        raise point.refuse(
            f"{module} has no file, so its code cannot be identified", "name a module that is a file"
        )
    return code


def as_read_only(array: NDArray[np.generic]) -> NDArray[Any]:
    """Return a view of the array that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view


def describe_error(error: BaseException, but: Collection[str] = ()) -> str:
    """Describe an error of custom code on one line: its type, its text without secrets, its file and line.

    Args:
        error: What was raised.
        but: Files of nextday, which are skipped when the location is chosen.
    """
    text = re.sub(r"\?[^\s'\"<>)]+", "?...", " ".join(str(error).split()))
    text = re.sub(r"//[^/@\s]+@", "//...@", text)
    for variable, value in os.environ.items():
        if len(value) >= 6 and SECRET_NAME.search(variable):
            text = text.replace(value, "...")
    return f"{type(error).__name__}{': ' * bool(text)}{text:.200}{_format_location(error, but)}"


_DIGESTS: Final[WeakKeyDictionary[ModuleType, str]] = WeakKeyDictionary()
"""The digest of each module's file at the time of its import: later edits of the file do not run."""


def _import_module(module: str, folder: Path, point: ExtensionPoint) -> ModuleType:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    importlib.invalidate_caches()
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise point.refuse(
                f"{module} cannot be imported: {describe_error(error)}", "install what it needs"
            ) from None
        raise point.refuse(
            f"There is no module {error.name!r}",
            f"put it into {folder}, or install it next to nextday; {point.page}",
        ) from None
    except (Exception, SystemExit) as error:
        raise point.refuse(f"{module} cannot be imported: {describe_error(error)}", "fix it") from None
    _require_local_module(found, module, folder, point)
    if found not in _DIGESTS:
        file = getattr(found, "__file__", None)
        _DIGESTS[found] = sha256(Path(file).read_bytes()).hexdigest()[:16] if file else ""
    return found


def _require_local_module(found: ModuleType, module: str, folder: Path, point: ExtensionPoint) -> None:
    """Refuse a module that shadows the one next to nextday.toml."""
    top = folder / module.partition(".")[0]
    is_local = top.with_suffix(".py").is_file() or (top / "__init__.py").is_file()
    file = getattr(found, "__file__", None)
    if is_local and file and not Path(file).resolve().is_relative_to(folder.resolve()):
        raise point.refuse(
            f"Python finds another {module!r} before yours: {file}", f"rename that in {folder}"
        )


def _format_location(error: BaseException, but: Collection[str]) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    skipped = {__file__, importlib.__file__, *but}
    custom = [f for f in frames if f.filename not in skipped and f.filename[0] != "<"]
    if not custom or isinstance(error, SyntaxError):
        return ""
    last = [frame for frame in custom if frame.filename == custom[0].filename][-1]
    return f" ({Path(last.filename).name}, line {last.lineno})"


BASELINE_NAMES: Final = frozenset(
    {
        *("always_up", "base_rate", "last_sign", "reversal", "momentum", "logistic_regression"),
        *("reversal_5", "momentum_252_21", "last_overnight", "mean_overnight_20"),
        *("gradient_boosting", "logistic_without_universe", "range_reversal", "best_before"),
        "logistic_window",
    }
)
"""The baselines' names in every table: a custom model may have none of them."""
SECRET_NAME: Final = re.compile(r"password|passwd|secret|token|api_?key", re.IGNORECASE)
_REFERENCE: Final = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*:[A-Za-z_]\w*", re.ASCII)


def is_custom_code(name: str) -> bool:
    """Return whether a name refers to custom code, `package.module:Name`."""
    return bool(_REFERENCE.fullmatch(name))


def plain_options(options: object, *, with_lists: bool = False) -> object:
    """Return the options of custom code after checking them: names with plain values, none of them a secret.

    Args:
        options: As written in the settings.
        with_lists: Whether a value may also be a list of plain values.

    Raises:
        ValueError: the options are anything else.
    """
    if not isinstance(options, dict):
        raise ValueError("write a table, such as { table = 'bars' }")
    for name, value in options.items():
        if SECRET_NAME.search(name) or re.search(r"://[^/\s]*@", str(value)):
            raise ValueError(
                f"{name} looks like a secret, and settings are stored: let the code read it from the environment"
            )
        values = value if with_lists and isinstance(value, list) else [value]
        if not name.isidentifier() or not all(map(_is_plain, values)):
            raise ValueError(
                f"{name}: a name takes text, a number (a finite one), true or false{', or a list of them' * with_lists}"
            )
    return options


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
