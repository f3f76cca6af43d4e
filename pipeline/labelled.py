"""The forecasts that have an outcome, every model on the very same rows: what each score and test begins with."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import metrics
from pipeline.errors import NextdayError
from pipeline.schema import FORECAST_KEY

__all__ = ["LabelledRows", "gather_labelled"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Labelled rows in order of session.

    Attributes:
        p: Probability of up of every model [n].
        y: Outcome [n].
        session: Number of the target session [n], from 0 without holes.
        horizon: Sessions ahead.
    """

    p: Mapping[str, Floats]
    y: Floats
    session: NDArray[np.intp]
    horizon: int

    @property
    def sessions(self) -> int:
        """How many there are."""
        return int(self.session[-1]) + 1 if len(self.session) else 0

    def by_session(self, values: Floats) -> Floats:
        """Return the sum of `values` [n] over each session."""
        sums: Floats = np.bincount(self.session, weights=values, minlength=self.sessions).astype(float)
        return sums

    def log_loss(self, model: str) -> Floats:
        """Return the mean log loss of each session."""
        return self.by_session(metrics.log_losses(self.p[model], self.y)) / np.bincount(self.session)

    def require(self, model: str) -> None:
        """Raise where there are rows and none is by `model`."""
        if len(self.y) and model not in self.p:
            raise NextdayError(f"There is no forecast by {model!r}; there are {', '.join(sorted(self.p))}")


def gather_labelled(rows: pd.DataFrame) -> LabelledRows:
    """Put the labelled rows of every model side by side.

    Args:
        rows: model, symbol, as_of, target_session, horizon, p_up, outcome (NaN where there is no label: left out).

    Raises:
        NextdayError: of several horizons, or the models stand on different rows.
    """
    labelled = rows["outcome"].notna().to_numpy()
    horizon = _only_horizon(rows["horizon"].to_numpy()[labelled])
    number = _number_rows(rows)[labelled]
    session = rows["target_session"].to_numpy()[labelled]
    p_up, outcome = (rows[name].to_numpy(float)[labelled] for name in ("p_up", "outcome"))
    known, first = np.unique(number, return_index=True)
    y, (model, names) = outcome[first], pd.factorize(rows["model"].to_numpy()[labelled])
    p = {}
    for place, name in enumerate(names):
        own = model == place
        p[str(name)] = _on_every_row(
            str(name), np.searchsorted(known, number[own]), p_up[own], outcome[own], y
        )
    return LabelledRows(p, y, np.unique(session[first], return_inverse=True)[1], horizon)


def _only_horizon(horizons: NDArray[np.integer]) -> int:
    found = np.unique(horizons)
    if len(found) > 1:
        raise NextdayError(
            f"Rows of several horizons ({', '.join(map(str, found))}) cannot be scored together",
            way_out="score each horizon by itself",
        )
    return int(found[0]) if len(found) else 1


def _number_rows(rows: pd.DataFrame) -> NDArray[np.int64]:
    """Return a number for each key, rising with the target session: one column instead of four to match by."""
    number = np.zeros(len(rows), np.int64)
    for name in ("target_session", "as_of", "symbol"):
        codes, levels = pd.factorize(rows[name], sort=True)
        number = number * max(len(levels), 1) + codes
    return number


def _on_every_row(model: str, row: NDArray[np.intp], p_up: Floats, outcome: Floats, y: Floats) -> Floats:
    p = np.full(len(y), np.nan)
    p[row] = p_up
    if len(row) != len(y) or np.isnan(p).any():
        missing, extra = int(np.isnan(p).sum()), len(row) - len(np.unique(row))
        raise NextdayError(
            f"The models do not stand on the same rows: {model} has no p_up on {missing} of {len(y)} rows and more "
            f"than one on {extra}",
            way_out=f"score models on one row per {', '.join(FORECAST_KEY)} each",
        )
    if not np.array_equal(y[row], outcome):
        raise NextdayError(f"{model} has other outcomes than the models before it on the same rows")
    return p
