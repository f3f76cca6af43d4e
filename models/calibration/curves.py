"""Calibration curves from logit to probability: fitted per horizon, non-decreasing, stored as plain numbers."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.calibration.bayes import PRIOR_DEVIATION, PRIOR_MEAN, Slope, fit_bayes
from models.calibration.isotonic import Isotonic, fit_isotonic
from models.calibration.platt import Platt, fit_platt
from models.calibration.temperature import Temperature, fit_temperature

__all__ = ["METHODS", "Curve", "curve_from_json", "curve_to_json", "fit_curve", "name_curve"]

Floats = NDArray[np.float64]
Curve = Slope | Temperature | Platt | Isotonic

_KINDS: Final[Mapping[str, type[Curve]]] = {
    "bayes": Slope,
    "temperature": Temperature,
    "platt": Platt,
    "isotonic": Isotonic,
}
METHODS: Final = tuple(_KINDS)
"""The methods' names, from the most cautious to the most flexible."""


def fit_curve(
    method: str,
    logits: Floats,
    y: Floats,
    *,
    base_rate: float,
    session: NDArray[np.integer],
    gap: int = 1,
    prior: tuple[float, float] = (PRIOR_MEAN, PRIOR_DEVIATION),
) -> Curve:
    """Fit the curve of one method.

    Args:
        method: One of METHODS.
        logits: [row].
        y: [row] in {0, 1}.
        base_rate: Share of ups among the training rows.
        session: [row], number of the session.
        gap: Longest horizon of the labels, in sessions.
        prior: Of `bayes`: mean and standard deviation of the slope.

    Raises:
        KeyError: there is no such method.
    """
    fits: Mapping[str, Callable[[], Curve]] = {
        "bayes": lambda: fit_bayes(logits, y, base_rate, session, gap=gap, prior=prior),
        "temperature": lambda: fit_temperature(logits, y, base_rate),
        "platt": lambda: fit_platt(logits, y),
        "isotonic": lambda: fit_isotonic(logits, y, len(np.unique(session))),
    }
    return fits[method]()


def name_curve(curve: Curve) -> str:
    """Return the name of a curve's method."""
    return next(name for name, kind in _KINDS.items() if type(curve) is kind)


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
