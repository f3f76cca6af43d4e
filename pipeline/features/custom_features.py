"""A custom feature set, `package.module:NAME`: imported, called with read-only arrays, its columns checked."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.features.columns import Columns, FeatureSet
from pipeline.features.feature_sets import FEATURE_SETS, default_features
from pipeline.features.panel import Panel
from pipeline.outputs import Output
from pipeline.plugins import ExtensionPoint, as_read_only, describe_error, find_code

__all__ = ["EXTENSION_POINT", "find_features", "wrap_features"]

EXTENSION_POINT = ExtensionPoint("[features] set", "docs/custom_features.md has a complete example")
"""The setting that names a custom feature set."""

_ARRAYS: Final = ("open", "high", "low", "close", "volume", "adj_close", "last_close", "is_index")
_PRICES: Final = ("open", "high", "low", "close")
_MAX_REACH: Final = 2000
"""Sessions, eight years: with a longer reach every nightly run would read nearly all of history."""


def find_features(name: str, folder: Path, outputs: Iterable[Output]) -> FeatureSet:
    """Return the feature set of that name: a built-in one, or a custom one, `package.module:NAME`.

    Args:
        name: As in `[features] set`.
        folder: The folder of nextday.toml.
        outputs: What is forecast, which decides what `default` is.

    Raises:
        ConfigError: there is no such set, or one of its fields is missing or invalid.
    """
    known = default_features(outputs) if name == "default" else name
    if known in FEATURE_SETS:
        return FEATURE_SETS[known]
    return wrap_features(find_code(name, folder, EXTENSION_POINT), name)


def wrap_features(custom: object, name: str) -> FeatureSet:
    """Wrap a user's object as a feature set whose computed columns are checked.

    Args:
        custom: An object with the fields columns, last_return, reach and compute of a FeatureSet; `needs` may be left
            out, then a row that lacks a price is explained by the column that is not finite.
        name: Its name in messages.

    Raises:
        ConfigError: a field is missing or invalid.
    """
    for attribute in ("columns", "last_return", "reach", "compute"):
        if not hasattr(custom, attribute):
            raise _refuse(name, f"there is no {attribute!r} on {type(custom).__name__}")
    fields: Any = custom
    columns, reach = fields.columns, fields.reach
    if not isinstance(columns, tuple | list) or not columns or not all(isinstance(c, str) for c in columns):
        raise _refuse(name, "columns must be a tuple of names")
    if len(set(columns)) < len(columns):
        raise _refuse(name, "columns contains a name twice")
    if fields.last_return not in columns:
        raise _refuse(name, f"last_return = {fields.last_return!r} is not one of its columns")
    if isinstance(reach, bool) or not isinstance(reach, int) or not 0 <= reach <= _MAX_REACH:
        raise _refuse(
            name, f"reach = {reach!r}: write how many earlier sessions a row depends on, 0 to {_MAX_REACH}"
        )
    if not callable(fields.compute):
        raise _refuse(name, "compute is not callable")
    needs = getattr(fields, "needs", ("close",))
    if not isinstance(needs, tuple | list) or not all(price in _PRICES for price in needs):
        raise _refuse(
            name, f"needs = {needs!r}: write which of {', '.join(_PRICES)} each row needs, as a tuple"
        )

    def compute(panel: Panel, belongs: NDArray[np.bool_]) -> Columns:
        return _check_columns(_call(fields.compute, panel, belongs, name), tuple(columns), panel, name)

    return FeatureSet(name, tuple(columns), fields.last_return, reach, compute, tuple(needs))


def _call(compute: Any, panel: Panel, belongs: NDArray[np.bool_], name: str) -> object:
    """Call the custom code with read-only arrays, because labels are computed from the same ones."""
    arrays: dict[str, Any] = {array: as_read_only(getattr(panel, array)) for array in _ARRAYS}
    read_only = replace(panel, symbols=[*panel.symbols], **arrays)
    try:
        return compute(read_only, as_read_only(belongs))
    except (Exception, SystemExit) as error:
        raise _fail(name, f"compute raised {describe_error(error, but=[__file__])}") from None


def _check_columns(answer: object, columns: tuple[str, ...], panel: Panel, name: str) -> Columns:
    """Return one frame of numbers [session, symbol] per column."""
    if not isinstance(answer, Mapping):
        raise _fail(name, f"compute must return a dict of columns, not {type(answer).__name__}")
    missing = [column for column in columns if column not in answer]
    if missing:
        raise _fail(name, f"compute returned no {', '.join(map(repr, missing))}")
    return {column: _check_column(answer[column], column, panel, name) for column in columns}


def _check_column(values: object, column: str, panel: Panel, name: str) -> pd.DataFrame:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise _fail(name, f"{column} contains values that are not numbers") from None
    if numbers.shape != panel.close.shape:
        raise _fail(
            name, f"{column} has the shape {numbers.shape}, not {panel.close.shape}: [session, symbol]"
        )
    return pd.DataFrame(numbers)


def _refuse(name: str, what: str) -> Exception:
    return EXTENSION_POINT.refuse(f"{name}: {what}", f"fix it; {EXTENSION_POINT.page}")


def _fail(name: str, what: str) -> InputError:
    return EXTENSION_POINT.fail(f"{name}: {what}")
