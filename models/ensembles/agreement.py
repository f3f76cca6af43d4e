"""How closely the members of an ensemble agree, and the band of their logits."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.calibration.rounding import round_diagnostic

__all__ = ["BAND", "Agreement", "banded", "join_agreements", "measure_agreement", "spread"]

BAND: Final = 1.64
"""Half width of the band in standard deviations of the members' logits: 90% of a normal spread."""


@dataclass(frozen=True)
class Agreement:
    """What the members' logits have in common, to six significant digits.

    Attributes:
        spread: Mean standard deviation of the members' logits at a row.
        correlation: Mean correlation (Pearson) of the logits of two members over the rows, of all pairs and horizons;
            None where no two members' logits move.
        rows: On how many rows.
    """

    spread: float
    correlation: float | None
    rows: int


def spread(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the standard deviation over the members of [member, row, horizon]; zero for a single one."""
    if len(logits) == 1:
        return np.zeros(logits.shape[1:])
    return np.asarray(logits.std(axis=0, ddof=1, dtype=np.float64))


def banded(logits: NDArray[np.floating]) -> tuple[NDArray[np.float64], ...]:
    """Return the mean of logits [member, row, horizon], and the lower and the upper end of their band."""
    exact = logits.astype(np.float64)
    middle, reach = exact.mean(axis=0), BAND * spread(exact)
    return middle, middle - reach, middle + reach


def measure_agreement(logits: NDArray[np.floating]) -> Agreement:
    """Return the agreement of logits [member, row, horizon]."""
    pairs = np.array([_correlations(logits[:, :, horizon]) for horizon in range(logits.shape[2])])
    known = pairs[np.isfinite(pairs)]
    return Agreement(
        spread=round_diagnostic(spread(logits).mean()),
        correlation=round_diagnostic(known.mean()) if len(known) else None,
        rows=logits.shape[1],
    )


def join_agreements(parts: list[Agreement]) -> Agreement:
    """Return the agreement of several ensembles, each of which counts by its rows."""
    moving = [part for part in parts if part.correlation is not None]
    return Agreement(
        spread=_weighted(parts, [part.spread for part in parts]),
        correlation=_weighted(moving, [part.correlation or 0.0 for part in moving]) if moving else None,
        rows=sum(part.rows for part in parts),
    )


def _weighted(parts: list[Agreement], values: list[float]) -> float:
    return round_diagnostic(np.average(np.array(values), weights=np.array([part.rows for part in parts])))


def _correlations(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the correlation of each pair of rows of [member, row]; NaN where one of them does not move."""
    members = len(logits)
    moves = logits.max(axis=1) > logits.min(axis=1)
    found = np.full((members, members), np.nan)
    if moves.sum() > 1:
        found[np.ix_(moves, moves)] = np.corrcoef(logits[moves].astype(np.float64))
    return np.asarray(found[np.triu_indices(members, 1)])
