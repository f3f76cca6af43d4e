"""What ensembles with a model per symbol share: which row of a block has which model, and forecasts row by row."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from models.errors import ModelError
from models.prediction import Prediction

__all__ = ["arrange_places", "forecast_by_symbol", "spread_over_rows"]

Floats = NDArray[np.float64]


def arrange_places(places: Sequence[int], rows: Sequence[int]) -> tuple[int, ...]:
    """Return the places for blocks whose symbols are the rows `rows` of the fitted one, -1 for others."""
    return tuple(places[row] if row >= 0 else -1 for row in rows)


def spread_over_rows(values: Sequence[Floats], places: Sequence[int]) -> Floats:
    """Return each row's value, [symbol, horizon]; NaN for a row without a model.

    Args:
        values: One per model, [horizon].
        places: The number of each row's model, -1 for none.
    """
    return np.array([values[place] if place >= 0 else np.full_like(values[0], np.nan) for place in places])


def forecast_by_symbol(
    forecast: Callable[[int, NDArray[np.float32], NDArray[np.bool_]], Floats],
    places: Sequence[int],
    x: NDArray[np.float32],
    mask: NDArray[np.bool_],
    horizons: int,
) -> Prediction:
    """Forecast each row of a block with its own model; NaN where it has none.

    Args:
        forecast: Takes the number of a model and the block of its symbol, and returns p_up, low and high,
            [3, session, horizon].
        places: The number of each row's model, -1 for none.
        x: Features, float32 [symbol, session, feature].
        mask: [symbol, session].
        horizons: Their number.

    Raises:
        ModelError: the block has another number of symbols than `places`.
    """
    if len(x) != len(places):
        raise ModelError(
            f"x has {len(x)} symbols, and this model is arranged for {len(places)}",
            fix="arrange it by the symbols of the block",
        )
    made = np.full((3, *mask.shape, horizons), np.nan)
    for symbol, place in enumerate(places):
        if place >= 0:
            only = slice(symbol, symbol + 1)
            made[:, symbol] = forecast(place, x[only], mask[only])
    return Prediction(*made)
