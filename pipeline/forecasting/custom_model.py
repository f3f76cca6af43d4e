"""A custom model, `package.module:Name`: imported, called with read-only arrays, its answers checked."""

import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, InputError
from pipeline.plugins import ExtensionPoint, as_read_only, describe_error, find_code

__all__ = ["EXTENSION_POINT", "CheckedFit", "CheckedModel", "find_model", "wrap_model"]

EXTENSION_POINT = ExtensionPoint("[model] kind", "docs/custom_model.md has a complete example")
"""The setting that names a custom model."""


@dataclass(frozen=True)
class CheckedFit:
    """A fitted or loaded custom model whose every answer is checked.

    Attributes:
        name: The model's name, `package.module:Name`.
        custom: The user's object, with predict and save.
        horizons: The number of horizons of the labels.
    """

    name: str
    custom: Any
    horizons: int

    def predict(
        self, x: NDArray[np.float32], mask: NDArray[np.bool_], rows: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Return p_up [row, horizon] of the requested rows; predictions of other rows are ignored.

        Args:
            x: Features, float32 [symbol, session, feature].
            mask: [symbol, session], true where the row is valid.
            rows: [symbol, session], true where a prediction is needed.

        Raises:
            InputError: predict failed, or its answer has another shape, or a row of it is no probability.
        """
        answer = _call(self.name, "predict", self.custom.predict, as_read_only(x), as_read_only(mask))
        try:
            if np.iscomplexobj(answer):
                raise TypeError("complex numbers")
            p_up = np.asarray(answer, dtype=np.float64)
        except Exception as error:
            raise _fail(
                self.name,
                f"predict returned a {type(answer).__name__} that is not an array of numbers: {describe_error(error)}",
            ) from None
        whole = (*mask.shape, self.horizons)
        if p_up.shape != whole and (p_up.shape != mask.shape or self.horizons > 1):
            raise _fail(
                self.name,
                f"predict returned the shape {p_up.shape}, not {whole}: [symbol, session, horizon]",
            )
        _require_probabilities(self.name, p_up.reshape(whole), rows)
        return np.asarray(p_up.reshape(whole)[rows])

    def save(self, directory: Path) -> None:
        """Let the model write its files into an existing, empty folder.

        Raises:
            InputError: save failed, or wrote no file.
        """
        _call(self.name, "save", self.custom.save, directory)
        if not any(path.is_file() for path in directory.rglob("*")):
            raise _fail(self.name, "save wrote no file into the given folder")


@dataclass(frozen=True)
class CheckedModel:
    """The class of a custom model, whose fits are checked.

    Attributes:
        name: Its name, `package.module:Name`.
        custom: The user's class.
        options: The arguments of its __init__.
    """

    name: str
    custom: Any
    options: Mapping[str, Any]

    def make(self) -> Any:
        """Return a new instance of the class.

        Raises:
            ConfigError: its __init__ fails with these options.
        """
        try:
            return self.custom(**deepcopy(dict(self.options)))
        except (Exception, SystemExit) as error:
            given = ", ".join(self.options) or "no options"
            raise ConfigError(
                f"{self.name} cannot be made with {given}: {describe_error(error, but=[__file__])}",
                where="[model] options",
                fix=f"use the options that its __init__ takes; {EXTENSION_POINT.page}",
            ) from None

    def fit(
        self,
        x: NDArray[np.float32],
        mask: NDArray[np.bool_],
        y: NDArray[np.float32],
        *,
        train: range,
        stop: range,
        seed: int,
    ) -> CheckedFit:
        """Fit a new instance of the class.

        Raises:
            InputError: fit failed, or returned an object without predict or save.
        """
        arrays = (as_read_only(x), as_read_only(mask), as_read_only(y))
        fitted = _call(self.name, "fit", self.make().fit, *arrays, train=train, stop=stop, seed=seed)
        return self._check_fitted(fitted, "fit", y.shape[-1])

    def load(self, directory: Path, horizons: int) -> CheckedFit:
        """Load the model that was saved in a folder.

        Raises:
            InputError: load failed, or returned an object without predict or save.
        """
        return self._check_fitted(_call(self.name, "load", self.custom.load, directory), "load", horizons)

    def _check_fitted(self, fitted: object, method: str, horizons: int) -> CheckedFit:
        for needed in ("predict", "save"):
            if not callable(getattr(fitted, needed, None)):
                raise _fail(
                    self.name, f"{method} returned a {type(fitted).__name__} without the method {needed!r}"
                )
        return CheckedFit(self.name, fitted, horizons)


def find_model(name: str, options: Mapping[str, Any], folder: Path) -> CheckedModel:
    """Import and check the custom model of that name.

    Args:
        name: As in `[model] kind`, `package.module:Name`.
        options: The arguments of its __init__.
        folder: The folder of nextday.toml.

    Raises:
        ConfigError: there is no such class, it lacks a method, or its __init__ fails with these options.
    """
    return wrap_model(find_code(name, folder, EXTENSION_POINT), name, options)


def wrap_model(custom: object, name: str, options: Mapping[str, Any]) -> CheckedModel:
    """Wrap a user's class as a model whose answers are checked; one instance is made as a test.

    Args:
        custom: A class with fit and load.
        name: Its name in messages.
        options: The arguments of its __init__.

    Raises:
        ConfigError: it is no such class.
    """
    if not isinstance(custom, type):
        raise EXTENSION_POINT.refuse(
            f"{name} is not a class but a {type(custom).__name__}", f"name a class; {EXTENSION_POINT.page}"
        )
    for method in ("fit", "load"):
        if not callable(getattr(custom, method, None)):
            raise EXTENSION_POINT.refuse(
                f"{name} has no method {method!r}", f"write it; {EXTENSION_POINT.page}"
            )
    if inspect.isfunction(inspect.getattr_static(custom, "load")):
        raise EXTENSION_POINT.refuse(
            f"{name}: load is an instance method, but there is no instance yet",
            "decorate it with @classmethod or @staticmethod",
        )
    model = CheckedModel(name, custom, options)
    model.make()
    return model


def _call(name: str, method: str, call: Callable[..., Any], *given: object, **further: object) -> Any:
    try:
        return call(*given, **further)
    except (Exception, SystemExit) as error:
        raise _fail(name, f"{method} raised {describe_error(error, but=[__file__])}") from None


def _require_probabilities(name: str, p_up: NDArray[np.float64], rows: NDArray[np.bool_]) -> None:
    bad = ~((p_up >= 0) & (p_up <= 1)) & rows[:, :, None]
    if bad.any():
        symbol, session, horizon = np.argwhere(bad)[0]
        raise _fail(
            name,
            f"predict returned {p_up[symbol, session, horizon]:.6g} where a probability between 0 and 1 is needed, in "
            f"{int(bad.any(axis=2).sum()):,} of {int(rows.sum()):,} rows; the first is symbol {symbol}, session "
            f"{session} of {rows.shape[1]}, horizon {horizon}, counted from 0",
        )


def _fail(name: str, what: str) -> InputError:
    return EXTENSION_POINT.fail(f"{name}: {what}")
