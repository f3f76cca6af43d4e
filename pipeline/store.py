"""The price store: append-only and bitemporal, on Delta Lake; what was once read can be read again.

Every append has a rising `seq`; the current view is the highest seq of each (symbol, session), and the view as
known at seq k leaves later rows out. Nothing is overwritten. Only this module touches deltalake.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError
from filelock import FileLock

from pipeline.errors import StoreError
from pipeline.schema import PRICES, empty, validated

__all__ = ["PriceStore"]

_VALUES = [
    "open",
    "high",
    "low",
    "close",
    "volume",
    "dividend",
    "split",
    "adjustment",
    "currency",
    "status",
    "source",
]
_KEY = ["symbol", "session"]


class PriceStore:
    """Bars as traded of one universe, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def append(self, prices: pd.DataFrame, *, run: str) -> int:
        """Append the rows that say something new, and return how many those were.

        Args:
            prices: Rows under schema.PRICES; a row equal in every value to the one that stands is not new.
            run: What wrote them, kept with the commit.

        Raises:
            NextdayError: a row breaks the schema.
            StoreError: the store cannot be written.
        """
        prices = validated(prices, PRICES)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder.with_name(f".{self.folder.name}.lock"), timeout=600):
            new = _changed(prices, self.read())
            if not new.empty:
                self._write(new.assign(seq=self.seq() + 1), run)
        return len(new)

    def read(self, as_of: pd.Timestamp | None = None, seq: int | None = None) -> pd.DataFrame:
        """Return the bars of sessions up to `as_of`, as known at `seq`, by symbol and session.

        Columns of schema.PRICES and `seq`. Without arguments: everything that is known now.
        """
        rows = self._rows()
        if as_of is not None:
            rows = rows[rows["session"] <= as_of]
        if seq is not None:
            rows = rows[rows["seq"] <= seq]
        # Two closes of one session in one append cannot be: the schema forbids it.
        standing = rows.sort_values([*_KEY, "seq"], kind="stable").drop_duplicates(_KEY, keep="last")
        return standing.reset_index(drop=True)

    def seq(self) -> int:
        """Return the seq of the last append, 0 for an empty store."""
        table = self._table()
        if table is None:
            return 0
        return int(pc.max(table.to_pyarrow_table(columns=["seq"])["seq"]).as_py() or 0)

    def _table(self) -> DeltaTable | None:
        try:
            return DeltaTable(str(self.folder)) if DeltaTable.is_deltatable(str(self.folder)) else None
        except (DeltaError, OSError) as error:
            raise _unreadable(error, self.folder) from None

    def _rows(self) -> pd.DataFrame:
        table = self._table()
        columns = [*PRICES.columns, "seq"]
        if table is None:
            return empty(PRICES).assign(seq=np.array([], dtype=np.int64))
        try:
            rows: pd.DataFrame = table.to_pyarrow_table(columns=columns).to_pandas()
            return rows
        except (DeltaError, OSError, pa.ArrowException) as error:
            raise _unreadable(error, self.folder) from None

    def _write(self, rows: pd.DataFrame, run: str) -> None:
        rows = rows.assign(year=rows["session"].dt.year.astype("int32"))
        try:
            write_deltalake(
                str(self.folder),
                pa.Table.from_pandas(rows, preserve_index=False),
                mode="append",
                partition_by=["year"],
                commit_properties=CommitProperties(custom_metadata={"run": run}),
            )
        except (DeltaError, OSError) as error:
            raise StoreError(
                f"The price store cannot be written: {error!s:.200}",
                where=str(self.folder),
                way_out="nothing was appended; see to disk space and permissions, then run again",
            ) from None


def _unreadable(error: Exception, folder: Path) -> StoreError:
    reason = str(error).split("\n")[0]
    return StoreError(
        f"The price store cannot be read: {reason:.200}",
        where=str(folder),
        way_out="move the folder away; the next run fetches the history again into a new one",
    )


def _changed(prices: pd.DataFrame, standing: pd.DataFrame) -> pd.DataFrame:
    if standing.empty:
        return prices
    both = prices[_KEY].merge(standing, on=_KEY, how="left", validate="one_to_one")
    same = np.ones(len(prices), dtype=bool)
    for name in _VALUES:
        old, new = both[name], prices[name].reset_index(drop=True)
        same &= ((old == new) | (old.isna() & new.isna())).to_numpy()
    return prices[~same]
