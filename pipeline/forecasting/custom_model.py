"""A model of one's own, `package.module:Name`: found, checked, and kept from doing harm."""

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

EXTENSION_POINT = ExtensionPoint("[model] kind", "docs/custom_model.md shows a whole one")
"""Where such a model is named."""


@dataclass(frozen=True)
class CheckedFit:
    """What a fit of somebody's model returned, or what was loaded: whatever it answers is checked.

    Attributes:
        name: What the model is called, `package.module:Name`.
        written: An object with predict and save.
        horizons: How many the labels had.
    """

    name: str
    written: Any
    horizons: int

    def predict(
        self, x: NDArray[np.float32], mask: NDArray[np.bool_], rows: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Return p_up [row, horizon] of the rows that are asked for; what it says of others is of no account.

        Args:
            x: Features, float32 [symbol, session, feature].
            mask: [symbol, session], true where the row is valid.
            rows: [symbol, session], true where an answer is needed.

        Raises:
            InputError: predict failed, or its answer has another shape, or no probability in a row.
        """
        answer = _ask(self.name, "predict", self.written.predict, as_read_only(x), as_read_only(mask))
        try:
            if np.iscomplexobj(answer):
                raise TypeError("complex numbers")
            p_up = np.asarray(answer, dtype=np.float64)
        except Exception as error:
            raise _broken(
                self.name,
                f"predict returned a {type(answer).__name__} that is no array of numbers: {describe_error(error)}",
            ) from None
        whole = (*mask.shape, self.horizons)
        if p_up.shape != whole and (p_up.shape != mask.shape or self.horizons > 1):
            raise _broken(
                self.name,
                f"predict returned the shape {p_up.shape}, not {whole}: [symbol, session, horizon]",
            )
        _require_probabilities(self.name, p_up.reshape(whole), rows)
        return np.asarray(p_up.reshape(whole)[rows])

    def save(self, directory: Path) -> None:
        """Let it write its files into a folder that is there and empty.

        Raises:
            InputError: save failed, or wrote no file.
        """
        _ask(self.name, "save", self.written.save, directory)
        if not any(path.is_file() for path in directory.rglob("*")):
            raise _broken(self.name, "save wrote no file into the folder that it was given")


@dataclass(frozen=True)
class CheckedModel:
    """A class that somebody wrote.

    Attributes:
        name: What it is called, `package.module:Name`.
        written: The class.
        options: What it is made with.
    """

    name: str
    written: Any
    options: Mapping[str, Any]

    def make(self) -> Any:
        """Return a new object of the class.

        Raises:
            ConfigError: it cannot be made with these options.
        """
        try:
            return self.written(**deepcopy(dict(self.options)))
        except (Exception, SystemExit) as error:
            made_with = ", ".join(self.options) or "no options"
            raise ConfigError(
                f"{self.name} cannot be made with {made_with}: {describe_error(error, but=[__file__])}",
                where="[model] options",
                fix=f"write the options that its __init__ takes; {EXTENSION_POINT.page}",
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
        """Let a new object of the class learn.

        Raises:
            InputError: fit failed, or returned what cannot predict or be saved.
        """
        lent = (as_read_only(x), as_read_only(mask), as_read_only(y))
        fitted = _ask(self.name, "fit", self.make().fit, *lent, train=train, stop=stop, seed=seed)
        return self._fitted(fitted, "fit", y.shape[-1])

    def load(self, directory: Path, horizons: int) -> CheckedFit:
        """Return what was saved in a folder.

        Raises:
            InputError: load failed, or returned what cannot predict or be saved.
        """
        return self._fitted(_ask(self.name, "load", self.written.load, directory), "load", horizons)

    def _fitted(self, fitted: object, method: str, horizons: int) -> CheckedFit:
        for needed in ("predict", "save"):
            if not callable(getattr(fitted, needed, None)):
                raise _broken(
                    self.name, f"{method} returned a {type(fitted).__name__} without the method {needed!r}"
                )
        return CheckedFit(self.name, fitted, horizons)


def find_model(name: str, options: Mapping[str, Any], folder: Path) -> CheckedModel:
    """Return the user's own model of that name.

    Args:
        name: As `[model] kind` has it, `package.module:Name`.
        options: What it is made with.
        folder: Where nextday.toml lies.

    Raises:
        ConfigError: there is no such class, it lacks a method, or it cannot be made with these options.
    """
    return wrap_model(find_code(name, folder, EXTENSION_POINT), name, options)


def wrap_model(written: object, name: str, options: Mapping[str, Any]) -> CheckedModel:
    """Return what somebody wrote as a model whose answers are checked, after making one of it.

    Args:
        written: A class with fit and load.
        name: What it is called.
        options: What it is made with.

    Raises:
        ConfigError: it is no such class.
    """
    if not isinstance(written, type):
        raise EXTENSION_POINT.refuse(
            f"{name} is no class, but a {type(written).__name__}", f"name a class; {EXTENSION_POINT.page}"
        )
    for method in ("fit", "load"):
        if not callable(getattr(written, method, None)):
            raise EXTENSION_POINT.refuse(
                f"{name} has no method {method!r}", f"write it; {EXTENSION_POINT.page}"
            )
    if inspect.isfunction(inspect.getattr_static(written, "load")):
        raise EXTENSION_POINT.refuse(
            f"{name}: load needs an object that is not there yet",
            "write @classmethod or @staticmethod above it",
        )
    model = CheckedModel(name, written, options)
    model.make()
    return model


def _ask(name: str, method: str, call: Callable[..., Any], *given: object, **further: object) -> Any:
    try:
        return call(*given, **further)
    except (Exception, SystemExit) as error:
        raise _broken(name, f"{method} raised {describe_error(error, but=[__file__])}") from None


def _require_probabilities(name: str, p_up: NDArray[np.float64], rows: NDArray[np.bool_]) -> None:
    bad = ~((p_up >= 0) & (p_up <= 1)) & rows[:, :, None]
    if bad.any():
        symbol, session, horizon = np.argwhere(bad)[0]
        raise _broken(
            name,
            f"predict returned {p_up[symbol, session, horizon]:.6g} where a probability from 0 to 1 is needed, in "
            f"{int(bad.any(axis=2).sum()):,} of {int(rows.sum()):,} rows; the first is symbol {symbol}, session "
            f"{session} of {rows.shape[1]}, horizon {horizon}, counted from 0",
        )


def _broken(name: str, what: str) -> InputError:
    return InputError(f"{name}: {what}", where=EXTENSION_POINT.where, fix=f"fix it; {EXTENSION_POINT.page}")
