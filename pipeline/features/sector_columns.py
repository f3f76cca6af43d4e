"""Columns on a symbol's sector: the means of its other members, the ranks inside it, and which one it is."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.features.columns import BRIDGED, Columns, FeatureSet, leave_one_out_mean, log_of, rolling
from pipeline.features.panel import Panel
from pipeline.features.ranks import rank_members
from pipeline.market.universe import Universe

__all__ = ["MAX_SECTORS", "SECTOR", "SECTOR_COLUMNS", "with_sector"]

SECTOR: Final = "sector_"
"""The prefix of these columns."""

SECTOR_COLUMNS: Final = (
    *("sector_return_1", "sector_return_5"),
    *("sector_rank_return_1", "sector_rank_return_5", "sector_rank_return_21", "sector_rank_volatility_21"),
)

MAX_SECTORS: Final = 64
"""Each sector is a column of its own."""

_MONTH: Final = 21

_Measure = Callable[[pd.DataFrame, NDArray[np.bool_]], pd.DataFrame]


def with_sector(features: FeatureSet, universe: Universe, names: Sequence[str]) -> FeatureSet:
    """Return the feature set with the columns of SECTOR_COLUMNS, and `sector_is_NAME` for each of the names.

    sector_return_k is the mean return of the other members of the sector over k sessions, over those that have had a
    bar in the last sessions; it is missing where fewer than half of these have a value, and 0 where there are none.
    sector_rank_* is the rank among the members of the sector, from -0.5 to 0.5, 0 where it is alone. A symbol without
    a sector counts as alone.

    Args:
        features: The set.
        universe: The constituents with their sectors; a sector holds between the dates of its row in the list.
        names: The sectors that a network has an input for; another sector is 0 in all of these.
    """

    def compute(panel: Panel, belongs: NDArray[np.bool_]) -> Columns:
        codes = universe.sector_codes(panel.sessions, panel.symbols).to_numpy()
        return {
            **features.compute(panel, belongs),
            **_compare(panel, belongs, codes),
            **{
                f"{SECTOR}is_{name}": pd.DataFrame((codes == place).astype(float))
                for name, place in ((name, _place(universe, name)) for name in names)
            },
        }

    return replace(
        features,
        added=(*features.added, "sector"),
        columns=(*features.columns, *SECTOR_COLUMNS, *(f"{SECTOR}is_{name}" for name in names)),
        compute=compute,
        reach=max(features.reach, _MONTH + BRIDGED),
    )


def _place(universe: Universe, name: str) -> int:
    """Return the code of a sector; one that no code has where the list no longer has it."""
    return universe.sectors.index(name) if name in universe.sectors else len(universe.sectors)


def _compare(panel: Panel, belongs: NDArray[np.bool_], codes: NDArray[np.int64]) -> Columns:
    log = log_of(pd.DataFrame(panel.adj_close))
    known = log.ffill(limit=BRIDGED)
    change = {k: log - known.shift(k) for k in (1, 5, _MONTH)}
    volatility = rolling(log.diff(), _MONTH).std()
    # A listing that is still to come is no missing value: lists without dates have many, and sectors are small.
    is_listed = pd.DataFrame(panel.has_bar).rolling(BRIDGED + 1, min_periods=1).max().to_numpy() > 0
    listed = belongs & is_listed
    columns = {f"sector_return_{k}": _by_sector(leave_one_out_mean, change[k], listed, codes) for k in (1, 5)}
    ranked = {f"return_{k}": each for k, each in change.items()} | {"volatility_21": volatility}
    return columns | {
        f"sector_rank_{name}": _by_sector(rank_members, values, belongs, codes)
        for name, values in ranked.items()
    }


def _by_sector(
    measure: _Measure, values: pd.DataFrame, belongs: NDArray[np.bool_], codes: NDArray[np.int64]
) -> pd.DataFrame:
    """Return the measure of each sector's members by themselves; 0 without a sector, NaN where there is no value."""
    found = values.to_numpy() * 0.0
    for code in range(codes.max(initial=-1) + 1):
        inside = codes == code
        columns = np.flatnonzero(inside.any(axis=0))
        if not len(columns):
            continue
        part, own = inside[:, columns], values.iloc[:, columns]
        measured = measure(own, belongs[:, columns] & part).to_numpy()
        found[:, columns] = np.where(part, measured, found[:, columns])
    return pd.DataFrame(found)
