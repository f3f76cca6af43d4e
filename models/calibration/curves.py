"""Calibration curves from logit to probability: fitted per horizon, non-decreasing, stored as plain numbers."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.calibration.isotonic import Isotonic, fit_isotonic
from models.calibration.platt import Platt, fit_platt
from models.calibration.temperature import Temperature, fit_temperature

__all__ = ["METHODS", "Curve", "curve_from_json", "curve_to_json", "fit_curve", "name_curve"]

Floats = NDArray[np.float64]
Curve = Temperature | Platt | Isotonic

_KINDS: Final[Mapping[str, type[Curve]]] = {
    "temperature": Temperature,
    "platt": Platt,
    "isotonic": Isotonic,
}
_FITS: Final[Mapping[str, Callable[[Floats, Floats, float, int], Curve]]] = {
    "temperature": lambda logits, y, base_rate, sessions: fit_temperature(logits, y, base_rate),
    "platt": lambda logits, y, base_rate, sessions: fit_platt(logits, y),
    "isotonic": lambda logits, y, base_rate, sessions: fit_isotonic(logits, y, sessions),
}

METHODS: Final = tuple(_KINDS)
"""The methods' names, from the simplest to the most flexible."""


def fit_curve(method: str, logits: Floats, y: Floats, *, base_rate: float, sessions: int) -> Curve:
    """Fit the curve of one method.

    Args:
        method: One of METHODS.
        logits: [row].
        y: [row] in {0, 1}.
        base_rate: Share of ups among the training rows.
        sessions: Number of sessions of these rows.
    """
    return _FITS[method](logits, y, base_rate, sessions)


def name_curve(curve: Curve) -> str:
    """Return the name of a curve's method."""
    return next(name for name, kind in _KINDS.items() if isinstance(curve, kind))


def curve_to_json(curve: Curve) -> dict[str, Any]:
    """Return the method and the numbers of a curve."""
    return {"method": name_curve(curve), **asdict(curve)}


def curve_from_json(kept: Mapping[str, Any]) -> Curve:
    """Return the curve that `curve_to_json` wrote.

    Raises:
        KeyError, TypeError: `kept` is not one.
    """
    numbers: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in kept.items()
        if name != "method"
    }
    return _KINDS[kept["method"]](**numbers)
