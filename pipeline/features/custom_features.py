"""A feature set of one's own, `package.module:NAME`: found, checked, and kept from doing harm."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.features.feature_sets import FEATURE_SETS, Columns, FeatureSet
from pipeline.features.panel import Panel
from pipeline.plugins import ExtensionPoint, as_read_only, describe_error, find_code

__all__ = ["EXTENSION_POINT", "find_features", "wrap_features"]

EXTENSION_POINT = ExtensionPoint("[features] set", "docs/custom_features.md shows a whole one")
"""Where such a set is named."""

_ARRAYS: Final = ("open", "high", "low", "close", "volume", "adj_close", "last_close", "is_index")
_LONGEST: Final = 2000
"""Sessions, eight years: a set that reaches back farther would read nearly all of history for every evening."""


def find_features(name: str, folder: Path) -> FeatureSet:
    """Return the feature set of that name: one of nextday's, or the user's own, `package.module:NAME`.

    Args:
        name: As `[features] set` has it.
        folder: Where nextday.toml lies.

    Raises:
        ConfigError: there is no such set, or it lacks something.
    """
    if name in FEATURE_SETS:
        return FEATURE_SETS[name]
    return wrap_features(find_code(name, folder, EXTENSION_POINT), name)


def wrap_features(written: object, name: str) -> FeatureSet:
    """Return what somebody wrote as a feature set that keeps the rules: what it computes is checked.

    Args:
        written: An object with columns, last_return, reach and compute, as a FeatureSet has them.
        name: What it is called.

    Raises:
        ConfigError: it is no such object.
    """
    for attribute in ("columns", "last_return", "reach", "compute"):
        if not hasattr(written, attribute):
            raise _wrong(name, f"there is no {attribute!r} on {type(written).__name__}")
    stated: Any = written
    columns, reach = stated.columns, stated.reach
    if not isinstance(columns, tuple | list) or not columns or not all(isinstance(c, str) for c in columns):
        raise _wrong(name, "columns must be a tuple of names")
    if len(set(columns)) < len(columns):
        raise _wrong(name, "columns names one column twice")
    if stated.last_return not in columns:
        raise _wrong(name, f"last_return = {stated.last_return!r} is none of its columns")
    if isinstance(reach, bool) or not isinstance(reach, int) or not 0 <= reach <= _LONGEST:
        raise _wrong(
            name, f"reach = {reach!r}: write how many sessions before its own a row needs, 0 to {_LONGEST}"
        )
    if not callable(stated.compute):
        raise _wrong(name, "compute is no function")

    def compute(panel: Panel, belongs: NDArray[np.bool_]) -> Columns:
        return _checked(_ask(stated.compute, panel, belongs, name), tuple(columns), panel, name)

    return FeatureSet(name, tuple(columns), stated.last_return, reach, compute)


def _ask(compute: Any, panel: Panel, belongs: NDArray[np.bool_], name: str) -> object:
    """Call somebody's code with arrays that it cannot change: labels are made of the same ones."""
    arrays: dict[str, Any] = {array: as_read_only(getattr(panel, array)) for array in _ARRAYS}
    lent = replace(panel, symbols=[*panel.symbols], **arrays)
    try:
        return compute(lent, as_read_only(belongs))
    except (Exception, SystemExit) as error:
        raise _broken(name, f"compute raised {describe_error(error, but=[__file__])}") from None


def _checked(answer: object, columns: tuple[str, ...], panel: Panel, name: str) -> Columns:
    """Return a wide frame of numbers for each column."""
    if not isinstance(answer, Mapping):
        raise _broken(name, f"compute must return a dict of columns, not {type(answer).__name__}")
    missing = [column for column in columns if column not in answer]
    if missing:
        raise _broken(name, f"compute returned no {', '.join(map(repr, missing))}")
    return {column: _wide(answer[column], column, panel, name) for column in columns}


def _wide(values: object, column: str, panel: Panel, name: str) -> pd.DataFrame:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise _broken(name, f"{column} holds what is no number") from None
    if numbers.shape != panel.close.shape:
        raise _broken(
            name, f"{column} has the shape {numbers.shape}, not {panel.close.shape}: [session, symbol]"
        )
    return pd.DataFrame(numbers)


def _wrong(name: str, what: str) -> Exception:
    return EXTENSION_POINT.refuse(f"{name}: {what}", f"fix it; {EXTENSION_POINT.page}")


def _broken(name: str, what: str) -> InputError:
    return InputError(f"{name}: {what}", where=EXTENSION_POINT.where, fix=f"fix it; {EXTENSION_POINT.page}")
