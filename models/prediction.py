"""The forecast that every model returns."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Prediction", "on_panel"]


@dataclass(frozen=True)
class Prediction:
    """Probabilities of a rise with their band, low <= p_up <= high.

    Attributes:
        p_up: float64 [symbol, session, horizon]; NaN where the row has no full valid window.
        low: Lower end of the band, same shape.
        high: Upper end of the band, same shape.
    """

    p_up: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def on_panel(values: NDArray[np.float64], usable: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return [symbol, session, horizon]: `values` [row, horizon] at the usable rows, NaN elsewhere."""
    panel = np.full((*usable.shape, values.shape[-1]), np.nan)
    panel[usable] = values
    return panel
