"""The fetch log: the source's answers by symbol and session, and the quarantine.

A SQLite file next to the price store. Rows are only added; the current state follows from the newest ones.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import pandas as pd

from pipeline.errors import StoreError
from pipeline.sources import Outcome
from pipeline.storage.database_checksum import check_database, note_database

__all__ = ["Answer", "FetchLog", "QuarantineEntry"]

_LAYOUT: Final = 1
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS answers (
  symbol TEXT NOT NULL,
  session TEXT NOT NULL,       -- the last closed one when the source was asked
  outcome TEXT NOT NULL,
  is_whole INTEGER NOT NULL,   -- 1: the whole history was requested, 0: recent sessions only
  asked_from TEXT NOT NULL,
  observed_at TEXT NOT NULL,
  bars INTEGER NOT NULL,
  reason TEXT NOT NULL,
  PRIMARY KEY (symbol, session, outcome, is_whole, asked_from)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS quarantine (
  id INTEGER PRIMARY KEY,
  at TEXT NOT NULL,
  instrument_id TEXT NOT NULL,
  symbol TEXT NOT NULL,
  event TEXT NOT NULL CHECK (event IN ('held', 'released', 'ended')),
  rule TEXT NOT NULL,
  evidence TEXT NOT NULL
) STRICT;
PRAGMA user_version = 1;
"""
_FIX: Final = (
    "restore the file from a backup; without one, move it and its .sha256 away: then the whole history of every symbol "
    "is requested and compared again"
)
_TIMEOUT: Final = 30.0  # seconds to wait for another connection


@dataclass(frozen=True)
class Answer:
    """The source's answer to one request.

    Attributes:
        symbol: The requested symbol.
        outcome: The outcome of the fetch.
        is_whole: Whether the whole history was requested.
        asked_from: The first requested session.
        observed_at: When the source answered (UTC).
        bars: The number of bars in the answer.
        reason: One sentence where the outcome is not `ok`.
    """

    symbol: str
    outcome: Outcome
    is_whole: bool
    asked_from: pd.Timestamp
    observed_at: datetime
    bars: int = 0
    reason: str = ""


@dataclass(frozen=True)
class QuarantineEntry:
    """A listing in quarantine.

    Attributes:
        instrument_id, symbol: The listing.
        since: When the source first contradicted the store (UTC).
        rule, evidence: The broken rule, and the contradiction in words.
        is_released: Whether the user has decided that the source is right: its next answer is stored without checks
            against the stored bars.
    """

    instrument_id: str
    symbol: str
    since: datetime
    rule: str
    evidence: str
    is_released: bool = False


class FetchLog:
    """The fetch log of one universe; a missing file reads as an empty log.

    Raises:
        StoreError: in every method: the file is locked, damaged, of a newer layout, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def record(self, session: pd.Timestamp, answers: Sequence[Answer]) -> None:
        """Record the answers given after the close of `session`; repeats (same outcome and request) are ignored."""
        day = _day(session)
        rows = [
            (
                answer.symbol,
                day,
                answer.outcome,
                int(answer.is_whole),
                _day(answer.asked_from),
                _instant(answer.observed_at),
                answer.bars,
                answer.reason,
            )
            for answer in answers
        ]
        with self._transaction() as db:
            db.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def not_found_streaks(self) -> dict[str, int]:
        """Return, by symbol, the number of sessions with `not_found` since the last `ok` or `empty` answer."""
        rows = self._select(
            "SELECT symbol, count(DISTINCT session) FROM answers AS a WHERE outcome = 'not_found' AND session > "
            "coalesce((SELECT max(session) FROM answers WHERE symbol = a.symbol AND outcome IN ('ok', 'empty')), '') "
            "GROUP BY symbol"
        )
        return {str(symbol): int(times) for symbol, times in rows}

    def answered_since(self, since: pd.Timestamp) -> dict[str, list[pd.Timestamp]] | None:
        """Return, by symbol, the sessions from `since` on with an `ok` or `empty` answer; None without a log."""
        if not self.path.exists():
            return None
        answered: dict[str, list[pd.Timestamp]] = {}
        rows = self._select(
            "SELECT DISTINCT symbol, session FROM answers WHERE outcome IN ('ok', 'empty') AND session >= ?",
            _day(since),
        )
        for symbol, session in rows:
            answered.setdefault(symbol, []).append(pd.Timestamp(session))
        return answered

    def whole_from(self) -> dict[str, pd.Timestamp]:
        """Return, by symbol, the earliest start of a whole history that the source delivered."""
        rows = self._select(
            "SELECT symbol, min(asked_from) FROM answers WHERE outcome = 'ok' AND is_whole = 1 GROUP BY symbol"
        )
        return {symbol: pd.Timestamp(day) for symbol, day in rows}

    def last_whole_answer(self) -> dict[str, pd.Timestamp]:
        """Return, by symbol, the session of the last `ok`, `empty` or `not_found` answer to a whole-history request."""
        rows = self._select(
            "SELECT symbol, max(session) FROM answers WHERE is_whole = 1 AND outcome IN ('ok', 'empty', 'not_found') "
            "GROUP BY symbol"
        )
        return {symbol: pd.Timestamp(day) for symbol, day in rows}

    def quarantined(self) -> dict[str, QuarantineEntry]:
        """Return the entries now in quarantine, by instrument_id."""
        entries: dict[str, QuarantineEntry] = {}
        for at, instrument_id, symbol, event, rule, evidence in self._select(
            "SELECT at, instrument_id, symbol, event, rule, evidence FROM quarantine ORDER BY id"
        ):
            if event == "held":
                entries[instrument_id] = QuarantineEntry(
                    instrument_id, symbol, datetime.fromisoformat(at), rule, evidence
                )
            elif event == "ended":
                entries.pop(instrument_id, None)
            elif instrument_id in entries:
                entries[instrument_id] = replace(entries[instrument_id], is_released=True)
        return entries

    def released(self) -> set[str]:
        """Return the instrument_ids that the user has ever released."""
        return {
            id_
            for (id_,) in self._select(
                "SELECT DISTINCT instrument_id FROM quarantine WHERE event = 'released'"
            )
        }

    def events(self) -> pd.DataFrame:
        """Return all quarantine events, oldest first: at, symbol, event, rule, evidence."""
        columns = ["at", "symbol", "event", "rule", "evidence"]
        return pd.DataFrame(
            self._select(f"SELECT {', '.join(columns)} FROM quarantine ORDER BY id"), columns=columns
        )

    def record_quarantine(
        self, event: Literal["held", "released", "ended"], entries: Sequence[QuarantineEntry], at: datetime
    ) -> None:
        """Record that these entries went into quarantine, were released by the user, or left it."""
        rows = [(_instant(at), e.instrument_id, e.symbol, event, e.rule, e.evidence) for e in entries]
        with self._transaction() as db:
            db.executemany(
                "INSERT INTO quarantine (at, instrument_id, symbol, event, rule, evidence) VALUES (?, ?, ?, ?, ?, ?)",
                rows,
            )

    def _select(self, query: str, *values: str) -> list[tuple[str, ...]]:
        if not self.path.exists():
            check_database(self.path, _FIX)
            return []
        with self._connect() as db:
            rows: list[tuple[str, ...]] = db.execute(query, values).fetchall()
        return rows

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._connect() as db:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
        note_database(self.path)

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            check_database(self.path, _FIX)
            with closing(sqlite3.connect(self.path, timeout=_TIMEOUT, isolation_level=None)) as db:
                layout = db.execute("PRAGMA user_version").fetchone()[0]
                if layout > _LAYOUT:
                    raise self._unusable(f"a newer nextday wrote it (layout {layout})")
                if layout == 0:
                    db.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")
                yield db
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(str(error)) from None

    def _unusable(self, reason: str) -> StoreError:
        return StoreError(
            f"The fetch log cannot be used: {reason:.200}",
            where=str(self.path),
            fix=f"check disk space and permissions, or {_FIX}",
        )


def _day(session: pd.Timestamp) -> str:
    return f"{session:%Y-%m-%d}"


def _instant(when: datetime) -> str:
    return pd.Timestamp(when).tz_convert("UTC").isoformat(timespec="microseconds")
