"""The append-only record of every issued forecast and of what came of it: the first row counts, for good."""

import csv
import io
import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TextIO

import pandas as pd

from pipeline.errors import LedgerError
from pipeline.ledger import hash_chain
from pipeline.ledger.hash_chain import Head, Verification
from pipeline.schema import FORECASTS, OUTCOMES, validated
from pipeline.storage.csv_output import disarm
from pipeline.storage.files import write_text

__all__ = ["Head", "Ledger", "UniverseRecord", "Verification"]

_SAME_RETURN: Final = 1e-9  # below it, two returns differ by the rounding of a later adjustment factor only

_KEY: Final = ("universe", "symbol", "as_of", "target_session", "horizon")
_SAME_KEY: Final = " AND ".join(f"{name} = :{name}" for name in _KEY)
_FORECAST: Final = tuple(FORECASTS.columns)
_RECORD: Final = (*_FORECAST, "outcome", "realized_return", "settled_at")
_CORRECTION: Final = (*OUTCOMES.columns, "first_outcome", "first_return")

_READ_AS: Final = {
    **dict.fromkeys(("as_of", "target_session"), "datetime64[us]"),
    **dict.fromkeys(("issued_at", "settled_at"), "datetime64[us, UTC]"),
    **dict.fromkeys(("batch", "horizon", "data_version"), "int64"),
    **dict.fromkeys(("p_up", "low", "high", "baseline_p_up", "last_close"), "float64"),
    **dict.fromkeys(("outcome", "realized_return", "first_outcome", "first_return"), "float64"),
    **dict.fromkeys(("symbol", "model_version", "direction", "config_digest", "role", "kind"), "str"),
}


class Ledger:
    """The ledger of one workspace: a SQLite file that every call opens and closes again.

    Args:
        path: The file; made, with its folders, if it is not there.
        read_only: Never make or change anything.

    Raises:
        LedgerError: from every method too: the file is missing (read_only), locked, damaged, no ledger at all,
            of a newer layout, or cannot be written.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path, self.read_only = path, read_only
        if not read_only:
            hash_chain.create(path)
        elif not path.exists():
            raise LedgerError(
                "There is no ledger yet",
                where=str(path),
                fix="the first forecast makes it: nextday forecast",
            )

    def issue(
        self,
        forecasts: pd.DataFrame,
        *,
        universe: str,
        opens: Mapping[pd.Timestamp, datetime],
        newest_observed_at: datetime,
        historical: bool,
        read_back: Callable[[sqlite3.Connection], None] = lambda db: None,
    ) -> pd.DataFrame:
        """Write down, as one sealed batch, the forecasts whose key is free; return those that stand.

        A champion stands alone on (universe, symbol, as_of, target_session, horizon): the first one counts,
        for good. Challengers stand beside it, one a model_version. A row is `live` if its source is not
        historical and it was issued before the session after its as_of opens, not before the last batch of its
        universe was, and not before the newest bar was observed; else it is `late`. That open ends the time of
        every horizon: what is twenty sessions ahead begins with the next one.

        Args:
            forecasts: FORECASTS columns without `kind`.
            universe: Whose forecasts they are.
            opens: By as_of, when the session after it opens (UTC); not looked at for a historical source.
            newest_observed_at: When the newest bar that the forecasts used was observed (UTC).
            historical: Whether the source ended in the past.
            read_back: Called with the transaction before it is committed.

        Returns:
            FORECASTS columns and `is_new` (bool): for each row asked for, in its order, the row that stands.

        Raises:
            LedgerError: an opening is missing.
        """
        shared = {"universe": universe, "observed_at": _instant(newest_observed_at)}
        asked = [row | shared for row in _encoded(validated(forecasts.assign(kind="late"), FORECASTS))]
        with self._writing() as db:
            last = db.execute(
                "SELECT max(made_at) FROM forecast_batches WHERE universe = ?", (universe,)
            ).fetchone()[0]
            fresh = [row for row in asked if not _standing(db, row)]
            for row in fresh:
                row["opens_at"] = None if historical else _opening(opens, row)
                row["kind"] = "live" if _is_live(row, last) else "late"
            batch = hash_chain.append(db, hash_chain.FORECAST, fresh)
            found = [stands for row in asked for stands in _standing(db, row)]
            read_back(db)
        standing = _decoded(found, ("batch", *_FORECAST)).drop_duplicates(ignore_index=True)
        return standing[list(_FORECAST)].assign(is_new=standing["batch"] == (batch or 0))

    def settle(
        self,
        outcomes: pd.DataFrame,
        *,
        universe: str,
        read_back: Callable[[sqlite3.Connection], None] = lambda db: None,
    ) -> int:
        """Write down outcomes (OUTCOMES columns) as one sealed batch; return how many keys it settled.

        The first outcome of a key counts. The same one again changes nothing; a different one is appended as
        a correction, which `corrections` lists and nothing counts.

        Raises:
            LedgerError: an outcome has no champion forecast; then none is written.
        """
        asked = [row | {"universe": universe} for row in _encoded(validated(outcomes, OUTCOMES))]
        with self._writing() as db:
            fresh = []
            for row in asked:
                last = _last_outcome(db, row)
                if last is None or not _is_same(last, row):
                    fresh.append(row | {"correction": int(last is not None)})
            hash_chain.append(db, hash_chain.OUTCOME, fresh)
            read_back(db)
        return sum(row["correction"] == 0 for row in fresh)

    def record(self, universe: str, *, role: str = "champion") -> pd.DataFrame:
        """Return a role's forecasts with outcome, realized_return and settled_at (NaN and NaT where open)."""
        return self._select(_RECORD, "universe = :universe AND role = :role", universe=universe, role=role)

    def forecasts(
        self, universe: str, *, as_of: pd.Timestamp | None = None, target_session: pd.Timestamp | None = None
    ) -> pd.DataFrame:
        """Return the forecasts of every role, FORECASTS columns, of all sessions or of one."""
        asked = {"as_of": as_of, "target_session": target_session}
        keys = {"universe": universe, **{name: _plain(day) for name, day in asked.items() if day is not None}}
        return self._select(_FORECAST, " AND ".join(f"{name} = :{name}" for name in keys), **keys)

    def corrections(self, universe: str) -> pd.DataFrame:
        """Return the outcomes that came after the first: OUTCOMES columns, first_outcome and first_return."""
        with self._reading() as db:
            return _read_corrections(db, universe)

    def universe_record(self, universe: str) -> "UniverseRecord":
        """Return what the ledger holds of a universe, read in one go; see UniverseRecord."""
        with self._reading() as db:
            return UniverseRecord(self, universe, db)

    def last_as_of(self, universe: str) -> pd.Timestamp | None:
        """Return the last session that a champion forecast was made on, None before the first."""
        query = "SELECT max(as_of) FROM forecasts WHERE universe = ? AND role = 'champion'"
        with self._reading() as db:
            last = db.execute(query, [universe]).fetchone()[0]
        return None if last is None else pd.Timestamp(last)

    def head(self) -> Head:
        """Return the heads of both chains; `head().hash` is the line to note elsewhere."""
        with self._reading() as db:
            return hash_chain.head(db)

    def verify(self, *, expected_head: str | None = None) -> Verification:
        """Recompute both chains and look for every other promise that is broken.

        Args:
            expected_head: `head().hash` as noted elsewhere at any time: what stood then must still stand.
        """
        with self._reading() as db:
            return hash_chain.verify(db, expected_head)

    def export_csv(self, universe: str | None, target: Path | TextIO) -> None:
        """Write the forecasts and outcomes of one universe, or of all, as CSV; a file whole or not at all.

        Floats stand in the shortest form that reads back as the same number, times in ISO 8601 (UTC). A text
        that a spreadsheet would run is led by an apostrophe.
        """
        columns = ("universe", *_RECORD, "opens_at")
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        query = _query(columns, ":universe IS NULL OR universe = :universe")
        with self._reading() as db:
            rows = db.execute(query, {"universe": universe})
            writer.writerows(map(disarm, row) for row in rows)
        if isinstance(target, Path) and (target.is_file() or not target.exists()) and not target.is_symlink():
            write_text(target, text.getvalue())
        elif isinstance(target, Path):  # a pipe, a device, a link: to be written through, never replaced
            target.write_text(text.getvalue(), encoding="utf-8")
        else:
            target.write(text.getvalue())

    def _select(self, columns: tuple[str, ...], where: str, **values: object) -> pd.DataFrame:
        with self._reading() as db:
            return _decoded(db.execute(_query(columns, where), values), columns)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with hash_chain.opened(self.path) as db:
            db.execute("PRAGMA query_only = ON")
            db.execute("BEGIN")
            yield db

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        if self.read_only:
            raise LedgerError("The ledger was opened for reading only", where=str(self.path))
        with hash_chain.opened(self.path) as db:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")


class UniverseRecord:
    """What the ledger holds of one universe: read once, and read back as far as it changes when it is written here.

    It is what the ledger holds as long as nothing else writes the same universe: a run holds the universe's lock.

    Attributes:
        rows: The champions' forecasts with their outcomes, as `Ledger.record` returns them.
        corrections: As `Ledger.corrections` returns them.
        head: The heads of both chains.
    """

    rows: pd.DataFrame
    corrections: pd.DataFrame
    head: Head

    def __init__(self, ledger: Ledger, universe: str, db: sqlite3.Connection) -> None:
        self._ledger, self._universe = ledger, universe
        self.rows = _decoded([], _RECORD)
        self._read(db, "")

    @property
    def last_as_of(self) -> pd.Timestamp | None:
        """The last session that a forecast was made on, None before the first."""
        return None if self.rows.empty else self.rows["as_of"].max()

    def forecasts(self, as_of: pd.Timestamp) -> pd.DataFrame:
        """Return the forecasts of one session, FORECASTS columns."""
        return self.rows.loc[self.rows["as_of"] == as_of, list(_FORECAST)].reset_index(drop=True)

    def issue(
        self,
        forecasts: pd.DataFrame,
        *,
        opens: Mapping[pd.Timestamp, datetime],
        newest_observed_at: datetime,
        historical: bool,
    ) -> pd.DataFrame:
        """Write down forecasts: see Ledger.issue."""
        return self._ledger.issue(
            forecasts,
            universe=self._universe,
            opens=opens,
            newest_observed_at=newest_observed_at,
            historical=historical,
            read_back=self._read_since(forecasts),
        )

    def settle(self, outcomes: pd.DataFrame) -> int:
        """Write down outcomes: see Ledger.settle."""
        return self._ledger.settle(outcomes, universe=self._universe, read_back=self._read_since(outcomes))

    def _read_since(self, written: pd.DataFrame) -> Callable[[sqlite3.Connection], None]:
        return lambda db: self._read(db, _plain(written["as_of"].min()))

    def _read(self, db: sqlite3.Connection, since: str) -> None:
        """Read everything, or what may have changed: the rows of the sessions from `since` (a date) on."""
        where = "universe = :universe AND role = 'champion' AND as_of >= :since"
        rows = db.execute(_query(_RECORD, where), {"universe": self._universe, "since": since})
        kept = self.rows[self.rows["as_of"] < pd.Timestamp(since)] if since else self.rows
        read = _decoded(rows, _RECORD)
        self.rows = pd.concat([kept, read], ignore_index=True) if len(kept) else read
        self.corrections = _read_corrections(db, self._universe)
        self.head = hash_chain.head(db)


def _read_corrections(db: sqlite3.Connection, universe: str) -> pd.DataFrame:
    same_key = " AND ".join(f"later.{name} = first.{name}" for name in _KEY)
    query = (
        "SELECT later.*, first.outcome AS first_outcome, first.realized_return AS first_return "
        f"FROM outcomes later JOIN outcomes first ON {same_key} AND first.correction = 0 "
        "WHERE later.correction = 1 AND later.universe = ? "
        "ORDER BY later.as_of, later.symbol, later.target_session, later.horizon, later.batch"
    )
    return _decoded(db.execute(query, [universe]), _CORRECTION)


def _instant(when: datetime) -> str:
    return pd.Timestamp(when).tz_convert("UTC").isoformat(timespec="microseconds")


def _plain(cell: Any) -> Any:
    """Return a cell as SQLite keeps it."""
    if isinstance(cell, pd.Timestamp):
        return f"{cell:%Y-%m-%d}" if cell.tzinfo is None else _instant(cell)
    return None if isinstance(cell, float) and math.isnan(cell) else cell


def _encoded(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): _plain(cell) for name, cell in row.items()} for row in frame.to_dict("records")]


def _decoded(rows: Iterable[sqlite3.Row], columns: tuple[str, ...]) -> pd.DataFrame:
    frame = pd.DataFrame([[row[name] for name in columns] for row in rows], columns=list(columns))
    return frame.astype({name: _READ_AS[name] for name in columns})


def _query(columns: tuple[str, ...], where: str) -> str:
    order = "universe, as_of, symbol, target_session, horizon, role DESC, model_version"
    return f"SELECT {', '.join(columns)} FROM record WHERE {where} ORDER BY {order}"


def _standing(db: sqlite3.Connection, row: dict[str, Any]) -> list[sqlite3.Row]:
    """Return the one row or none that stands: the champion, or what a challenger's model said in any role."""
    query = (
        f"SELECT * FROM forecasts WHERE {_SAME_KEY} AND role IN ('champion', :role) "
        "AND (:role = 'champion' OR model_version = :model_version) ORDER BY role DESC LIMIT 1"
    )
    return db.execute(query, row).fetchall()


def _opening(opens: Mapping[pd.Timestamp, datetime], row: dict[str, Any]) -> str:
    opening = opens.get(pd.Timestamp(row["as_of"]))
    if opening is None:
        raise LedgerError(f"{row['symbol']}: when the session after {row['as_of']} opens is not known")
    return _instant(opening)


def _is_live(row: dict[str, Any], last_issued_at: str | None) -> bool:
    not_before = max(row["observed_at"], last_issued_at or "")
    return row["opens_at"] is not None and not_before <= row["issued_at"] < row["opens_at"]


def _last_outcome(db: sqlite3.Connection, row: dict[str, Any]) -> sqlite3.Row | None:
    if not _standing(db, row | {"role": "champion", "model_version": None}):
        raise LedgerError(
            f"{row['symbol']}, as_of {row['as_of']}: this outcome has no champion forecast that it could settle"
        )
    query = f"SELECT * FROM outcomes WHERE {_SAME_KEY} ORDER BY batch DESC LIMIT 1"
    found: sqlite3.Row | None = db.execute(query, row).fetchone()
    return found


def _is_same(last: sqlite3.Row, row: dict[str, Any]) -> bool:
    before, now = last["realized_return"], row["realized_return"]
    if before is None or now is None:
        return before is now and bool(last["outcome"] == row["outcome"])
    return bool(last["outcome"] == row["outcome"]) and math.isclose(
        before, now, rel_tol=0, abs_tol=_SAME_RETURN
    )
