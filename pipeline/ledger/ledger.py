"""The append-only record of every issued forecast and its outcome: the first row of a key is final."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TextIO

import pandas as pd

from pipeline.errors import LedgerError
from pipeline.ledger import hash_chain, known_head, verification
from pipeline.ledger.backends import Connection, Row
from pipeline.ledger.hash_chain import Head
from pipeline.ledger.verification import Verification
from pipeline.schema import FORECAST_KEY, FORECASTS, OUTCOMES, column_types, validated
from pipeline.storage.csv_output import disarm
from pipeline.storage.files import write_text
from pipeline.storage.ledger_database import LedgerPlace

__all__ = ["Head", "Ledger", "UniverseRecord", "Verification"]

_SAME_RETURN: Final = 1e-9  # a smaller difference comes from rounding in a later adjustment factor

_KEY: Final = ("universe", *FORECAST_KEY)
_SAME_KEY: Final = " AND ".join(f"{name} = :{name}" for name in _KEY)
_FORECAST: Final = tuple(FORECASTS.columns)
_MEDIAN: Final = ("median_return", "median_members", "median_basis")
_SETTLED: Final = (*_FORECAST, "outcome", "realized_return", "settled_at", *_MEDIAN)
_RECORD: Final = (*_SETTLED, "void_reason")
_CORRECTION: Final = (*OUTCOMES.columns, "first_outcome", "first_return")

_DTYPES: Final = {
    **column_types(OUTCOMES),
    **column_types(FORECASTS),
    "batch": "int64",
    "first_outcome": column_types(OUTCOMES)["outcome"],
    "first_return": column_types(OUTCOMES)["realized_return"],
}
"""The type that each column is read back as."""


class Ledger:
    """The ledger of one workspace: a SQLite file or PostgreSQL schema that every call opens and closes again.

    Args:
        path: The file, created with its folders if it does not exist; or where the schema is.
        read_only: Never create the ledger or write a row; `hash_chain.opened` says what becomes of an earlier layout.

    Raises:
        LedgerUnreachableError: also from every method: the database cannot be reached.
        LedgerError: also from every method: it is missing (read_only), locked, damaged, newer, or cannot be written.
    """

    def __init__(self, path: LedgerPlace, *, read_only: bool = False) -> None:
        self.path, self.read_only = path, read_only
        is_begun = known_head.ledger_exists(path)
        if not read_only:
            hash_chain.create(path)
        elif not is_begun:
            raise LedgerError(
                "There is no ledger yet",
                where=str(path),
                fix="the first forecast creates it: nextday forecast",
            )

    def issue(
        self,
        forecasts: pd.DataFrame,
        *,
        universe: str,
        opens: Mapping[pd.Timestamp, datetime],
        newest_observed_at: datetime,
        historical: bool,
        read_back: Callable[[Connection], None] = lambda db: None,
    ) -> pd.DataFrame:
        """Append the forecasts whose key is new as one sealed batch; return the official row of each key.

        There is one champion row per (universe, symbol, as_of, target_session, horizon, target): the first is final.
        Challengers are kept next to it, one per model_version. A row is `live` if its source is not historical and
        it was issued before the session after its as_of opens, not before the last batch of its universe, and not
        before the newest bar was observed; else it is `late`. That open is the deadline of every horizon, because
        a period of twenty sessions also begins with the next one.

        Args:
            forecasts: FORECASTS columns without `kind`.
            universe: The universe of the forecasts.
            opens: By as_of, when the session after it opens (UTC); ignored for a historical source.
            newest_observed_at: When the newest bar that the forecasts used was observed (UTC).
            historical: Whether the source ended in the past.
            read_back: Called with the transaction before it is committed.

        Returns:
            FORECASTS columns and `is_new` (bool): the official row of each given row, in the same order.

        Raises:
            LedgerError: the open after an as_of is missing.
        """
        shared = {"universe": universe, "observed_at": _instant(newest_observed_at)}
        given = [row | shared for row in _encode(validated(forecasts.assign(kind="late"), FORECASTS))]
        with self._writing() as db:
            last = db.execute(
                "SELECT max(made_at) FROM forecast_batches WHERE universe = ?", (universe,)
            ).fetchone()[0]
            fresh = [
                row for row, official in zip(given, _find_officials(db, given), strict=True) if not official
            ]
            for row in fresh:
                row["opens_at"] = None if historical else _find_open(opens, row)
                row["kind"] = "live" if _is_live(row, last) else "late"
            batch = hash_chain.append(db, hash_chain.FORECAST, fresh)
            found = [row for official in _find_officials(db, given) for row in official]
            read_back(db)
        official = _decode(found, ("batch", *_FORECAST)).drop_duplicates(ignore_index=True)
        return official[list(_FORECAST)].assign(is_new=official["batch"] == (batch or 0))

    def settle(
        self,
        outcomes: pd.DataFrame,
        *,
        universe: str,
        read_back: Callable[[Connection], None] = lambda db: None,
    ) -> int:
        """Append outcomes (OUTCOMES columns) as one sealed batch; return how many keys it settled, void ones too.

        The first outcome of a key is final. The same one again is ignored; a different one is appended as a
        correction, which `corrections` lists and no score uses.

        Raises:
            LedgerError: an outcome has no champion forecast; nothing is written.
        """
        given = [row | {"universe": universe} for row in _encode(validated(outcomes, OUTCOMES))]
        with self._writing() as db:
            fresh = []
            for row, last in zip(given, _last_outcomes(db, given), strict=True):
                if last is None or not _is_same(last, row):
                    fresh.append(row | {"correction": int(last is not None)})
            hash_chain.append(db, hash_chain.OUTCOME, fresh)
            read_back(db)
        return sum(row["correction"] == 0 for row in fresh)

    def record(
        self, universe: str, *, role: str = "champion", model_versions: Sequence[str] = ()
    ) -> pd.DataFrame:
        """Return a role's forecasts with outcome, return, settled_at (NaN and NaT if open), median and void_reason.

        `model_versions`: of these models; none: of all.
        """
        names = {f"version{place}": version for place, version in enumerate(model_versions)}
        among = f" AND model_version IN ({', '.join(f':{name}' for name in names)})" if names else ""
        where = f"universe = :universe AND role = :role{among}"
        return self._select(_RECORD, where, universe=universe, role=role, **names)

    def forecasts(
        self, universe: str, *, as_of: pd.Timestamp | None = None, target_session: pd.Timestamp | None = None
    ) -> pd.DataFrame:
        """Return the forecasts of every role, FORECASTS columns, of all sessions or of one."""
        days = {"as_of": as_of, "target_session": target_session}
        keys = {
            "universe": universe,
            **{name: _encode_cell(day) for name, day in days.items() if day is not None},
        }
        return self._select(_FORECAST, " AND ".join(f"{name} = :{name}" for name in keys), **keys)

    def corrections(self, universe: str) -> pd.DataFrame:
        """Return the outcomes that differ from the first one: OUTCOMES columns, first_outcome and first_return."""
        with self._reading() as db:
            return _read_corrections(db, universe)

    def universe_record(self, universe: str) -> "UniverseRecord":
        """Read what the ledger holds of a universe in one transaction; see UniverseRecord."""
        with self._reading() as db:
            return UniverseRecord(self, universe, db)

    def last_as_of(self, universe: str) -> pd.Timestamp | None:
        """Return the last session that a champion forecast was made on, None before the first."""
        query = "SELECT max(as_of) FROM forecasts WHERE universe = ? AND role = 'champion'"
        with self._reading() as db:
            last = db.execute(query, [universe]).fetchone()[0]
        return None if last is None else pd.Timestamp(last)

    def highest_data_version(self, universe: str) -> int:
        """Return the highest version of the prices that a row of a universe names, 0 without a row."""
        tables = (
            f"SELECT max(data_version) AS v FROM {name} WHERE universe = :u"
            for name in ("forecasts", "outcomes")
        )
        query = f"SELECT max(v) FROM ({' UNION ALL '.join(tables)}) AS named"
        with self._reading() as db:
            return db.execute(query, {"u": universe}).fetchone()[0] or 0

    def head(self) -> Head:
        """Return the heads of both chains; note `head().hash` outside the workspace."""
        with self._reading() as db:
            return hash_chain.head(db)

    def verify(self, *, expected_head: str | None = None) -> Verification:
        """Recompute both chains and check the file, its layout and the times of live rows.

        Args:
            expected_head: An earlier `head().hash`: the rows sealed until then must be unchanged.
        """
        with self._reading(checked=False) as db:
            return verification.verify(db, self.path, expected_head)

    def export_csv(self, universe: str | None, target: Path | TextIO) -> None:
        """Write the forecasts and outcomes of one universe, or of all, as CSV; a file is replaced atomically.

        Floats are written in the shortest form that reads back as the same number, times in ISO 8601 (UTC). A text
        that a spreadsheet would run as a formula is prefixed with an apostrophe.
        """
        columns = ("universe", *_SETTLED, "opens_at", "void_reason")
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        query = _query(columns, "CAST(:universe AS TEXT) IS NULL OR universe = :universe")
        with self._reading() as db:
            rows = db.execute(query, {"universe": universe})
            writer.writerows(map(disarm, row) for row in rows)
        if isinstance(target, Path) and (target.is_file() or not target.exists()) and not target.is_symlink():
            write_text(target, text.getvalue())
        elif isinstance(target, Path):  # a pipe, a device or a link is written to, never replaced
            target.write_text(text.getvalue(), encoding="utf-8")
        else:
            target.write(text.getvalue())

    def _select(self, columns: tuple[str, ...], where: str, **values: object) -> pd.DataFrame:
        with self._reading() as db:
            return _decode(db.execute(_query(columns, where), values), columns)

    @contextmanager
    def _reading(self, *, checked: bool = True) -> Iterator[Connection]:
        with hash_chain.opened(self.path) as db:
            db.begin_reading()
            if checked:
                verification.check(db, self.path)
            yield db

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        if self.read_only:
            raise LedgerError("The ledger was opened read-only", where=str(self.path))
        with hash_chain.opened(self.path) as db:
            db.begin_writing()
            verification.check_end(db, self.path)
            yield db
            head = hash_chain.find_head(db)
            db.execute("COMMIT")
        known_head.note(self.path, head)


class UniverseRecord:
    """What the ledger holds of one universe: read once, and read back as far as it changes when it is written here.

    It is what the ledger holds as long as nothing else writes the same universe: a run holds the universe's lock.

    Attributes:
        rows: The champions' forecasts with their outcomes, as `Ledger.record` returns them.
        corrections: As `Ledger.corrections` returns them.
        head: The heads of both chains.
        beginnings: The losses that were accepted, one sentence each.
    """

    rows: pd.DataFrame
    corrections: pd.DataFrame
    head: Head
    beginnings: list[str]

    def __init__(self, ledger: Ledger, universe: str, db: Connection) -> None:
        self._ledger, self._universe = ledger, universe
        self.rows = _decode([], _RECORD)
        self.beginnings = hash_chain.list_beginnings(db)
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

    def _read_since(self, written: pd.DataFrame) -> Callable[[Connection], None]:
        return lambda db: self._read(db, _encode_cell(written["as_of"].min()))

    def _read(self, db: Connection, since: str) -> None:
        """Read everything, or what may have changed: the rows of the sessions from `since` (a date) on."""
        where = "universe = :universe AND role = 'champion' AND as_of >= :since"
        rows = db.execute(_query(_RECORD, where), {"universe": self._universe, "since": since})
        kept = self.rows[self.rows["as_of"] < pd.Timestamp(since)] if since else self.rows
        read = _decode(rows, _RECORD)
        self.rows = pd.concat([kept, read], ignore_index=True) if len(kept) else read
        self.corrections = _read_corrections(db, self._universe)
        self.head = hash_chain.head(db)


def _read_corrections(db: Connection, universe: str) -> pd.DataFrame:
    same_key = " AND ".join(f"later.{name} = first.{name}" for name in _KEY)
    query = (
        "SELECT later.*, first.outcome AS first_outcome, first.realized_return AS first_return "
        f"FROM outcomes later JOIN outcomes first ON {same_key} AND first.correction = 0 "
        "WHERE later.correction = 1 AND later.universe = ? "
        "ORDER BY later.as_of, later.symbol, later.target_session, later.horizon, later.target, later.batch"
    )
    return _decode(db.execute(query, [universe]), _CORRECTION)


def _instant(when: datetime) -> str:
    return pd.Timestamp(when).tz_convert("UTC").isoformat(timespec="microseconds")


def _encode_cell(cell: Any) -> Any:
    """Return a cell as it is stored."""
    if isinstance(cell, pd.Timestamp):
        return f"{cell:%Y-%m-%d}" if cell.tzinfo is None else _instant(cell)
    return None if isinstance(cell, float) and math.isnan(cell) else cell


def _encode(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): _encode_cell(cell) for name, cell in row.items()} for row in frame.to_dict("records")]


def _decode(rows: Iterable[Row], columns: tuple[str, ...]) -> pd.DataFrame:
    frame = pd.DataFrame([[row[name] for name in columns] for row in rows], columns=list(columns))
    return frame.astype({name: _DTYPES[name] for name in columns})


def _query(columns: tuple[str, ...], where: str) -> str:
    order = "universe, as_of, symbol, target_session, horizon, target, role DESC, model_version"
    return f"SELECT {', '.join(columns)} FROM record WHERE {where} ORDER BY {order}"


def _find_officials(db: Connection, rows: list[dict[str, Any]]) -> list[list[Row]]:
    """Return the official row of each key, if any: the champion's, or for a challenger its model's row of any role."""
    query = (
        f"SELECT * FROM forecasts WHERE {_SAME_KEY} AND role IN ('champion', :role) "
        "AND (:role = 'champion' OR model_version = :model_version) ORDER BY role DESC LIMIT 1"
    )
    return db.select_each(query, rows)


def _find_open(opens: Mapping[pd.Timestamp, datetime], row: dict[str, Any]) -> str:
    opening = opens.get(pd.Timestamp(row["as_of"]))
    if opening is None:
        raise LedgerError(f"{row['symbol']}: the open of the session after {row['as_of']} is not known")
    return _instant(opening)


def _is_live(row: dict[str, Any], last_issued_at: str | None) -> bool:
    not_before = max(row["observed_at"], last_issued_at or "")
    return row["opens_at"] is not None and not_before <= row["issued_at"] < row["opens_at"]


def _last_outcomes(db: Connection, rows: list[dict[str, Any]]) -> list[Row | None]:
    champions = _find_officials(db, [row | {"role": "champion", "model_version": None} for row in rows])
    for row, champion in zip(rows, champions, strict=True):
        if not champion:
            key = f"{row['symbol']}, as_of {row['as_of']}"
            raise LedgerError(f"{key}: this outcome has no champion forecast to settle")
    query = f"SELECT * FROM outcomes WHERE {_SAME_KEY} ORDER BY batch DESC LIMIT 1"
    return [found[0] if found else None for found in db.select_each(query, rows)]


def _is_same(last: Row, row: dict[str, Any]) -> bool:
    before, now = last["realized_return"], row["realized_return"]
    if last["median_basis"] is not None and before is not None and now is not None:
        # The median of more members is no news from the source: only the stock's own return is.
        return math.isclose(before, now, rel_tol=0, abs_tol=_SAME_RETURN)
    if before is None or now is None:
        return before is now and bool(last["outcome"] == row["outcome"])
    return bool(last["outcome"] == row["outcome"]) and math.isclose(
        before, now, rel_tol=0, abs_tol=_SAME_RETURN
    )
