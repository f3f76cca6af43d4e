"""The newest rows of the record as columns, sorted by listing: hundreds of pages each take a slice of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.outputs import TARGETS
from pipeline.schema import DIRECTIONS

__all__ = ["NONE", "OPEN", "RESULTS", "RIGHT", "WRONG", "Rows", "SymbolRows"]

RESULTS: Final = ("right", "wrong", "none", "open")
"""What became of a call: none is no direction, or no outcome; open is not settled yet."""
RIGHT, WRONG, NONE, OPEN = range(4)

Rows = Mapping[str, NDArray[Any]]
"""The rows of one listing by column, in order of as_of, then of the outputs."""

_NUMBERS: Final = ("p_up", "low", "high", "baseline_p_up", "outcome", "realized_return")


@dataclass(frozen=True, eq=False)
class SymbolRows:
    """Rows of the record by listing.

    Attributes:
        columns: as_of, target_session (datetime64[D]), horizon, target, direction, kind, version (codes), p_up, low,
            high, baseline_p_up, outcome, realized_return, result (a place in RESULTS).
        versions: The model versions by code.
        bounds: The slice of each listing.
    """

    columns: Rows
    versions: list[str]
    bounds: Mapping[str, slice]

    def of(self, symbol: str) -> Rows:
        """Return the rows of a listing; none where it has none."""
        where = self.bounds.get(symbol, slice(0, 0))
        return {name: column[where] for name, column in self.columns.items()}

    @classmethod
    def of_record(
        cls, record: pd.DataFrame, listing: "pd.Series[str]", *, since: pd.Timestamp, least: int
    ) -> "SymbolRows":
        """Return the newest rows.

        Args:
            record: The champion rows with their outcomes, in order of as_of.
            listing: The current symbol of each row.
            since: Rows for this session and later ones,
            least: and so many of each listing, however old: one that has left keeps its last rows.
        """
        last = listing.groupby(listing).cumcount(ascending=False) < least
        chosen = ((record["target_session"] >= since) | last).to_numpy()
        rows = record[chosen]
        code, names = pd.factorize(listing[chosen], sort=True)
        version, versions = pd.factorize(rows["model_version"], sort=True)
        columns = {
            "as_of": rows["as_of"].to_numpy("datetime64[D]"),
            "target_session": rows["target_session"].to_numpy("datetime64[D]"),
            "horizon": rows["horizon"].to_numpy(np.int64),
            "target": _number(rows["target"], TARGETS),
            "direction": _number(rows["direction"], DIRECTIONS),
            "kind": (rows["kind"] == "live").to_numpy(),
            "version": version.astype(np.int64),
            **{name: rows[name].to_numpy(np.float64) for name in _NUMBERS},
        }
        columns["result"] = _judge(
            columns["direction"], columns["outcome"], rows["settled_at"].notna().to_numpy()
        )
        order = np.lexsort((columns["horizon"], columns["target"], columns["as_of"], code))
        edges = np.searchsorted(code[order], np.arange(len(names) + 1))
        bounds = {str(name): slice(int(edges[at]), int(edges[at + 1])) for at, name in enumerate(names)}
        return cls({name: column[order] for name, column in columns.items()}, [*map(str, versions)], bounds)


def _number(column: "pd.Series[str]", names: tuple[str, ...]) -> NDArray[np.int64]:
    return np.asarray(column.map({name: place for place, name in enumerate(names)}), np.int64)


def _judge(
    direction: NDArray[np.int64], outcome: NDArray[np.float64], is_settled: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return what became of each call, as places in RESULTS."""
    rose = np.isin(direction, [DIRECTIONS.index("up"), DIRECTIONS.index("above")])
    is_call = direction != DIRECTIONS.index("none")
    known = np.where(rose == (outcome == 1), RIGHT, WRONG)
    return np.where(is_settled, np.where(is_call & np.isfinite(outcome), known, NONE), OPEN)
