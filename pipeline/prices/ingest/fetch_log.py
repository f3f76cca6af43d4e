"""What the source answered for each symbol on each evening, and who is in quarantine since when and why.

A SQLite file beside the price store. Rows are only added: the present state is read off the newest ones.
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

__all__ = ["Answer", "FetchLog", "QuarantineEntry"]

_LAYOUT: Final = 1
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS answers (
  symbol TEXT NOT NULL,
  session TEXT NOT NULL,       -- the last one that had closed
  outcome TEXT NOT NULL,
  is_whole INTEGER NOT NULL,   -- 1: the whole history was asked for, 0: the last sessions only
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
_PATIENCE: Final = 30.0  # seconds for a reader to end


@dataclass(frozen=True)
class Answer:
    """One symbol's answer of one evening.

    Attributes:
        symbol: As it was asked for.
        outcome: What the source said.
        is_whole: Whether the whole history was asked for.
        asked_from: The first session asked for.
        observed_at: When it answered (UTC).
        bars: How many it gave.
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
    """Somebody in quarantine.

    Attributes:
        instrument_id, symbol: Who.
        since: When the source first contradicted the store (UTC).
        rule, evidence: How.
        is_released: Whether a person has decided that the source is right: its next answer is taken as it comes.
    """

    instrument_id: str
    symbol: str
    since: datetime
    rule: str
    evidence: str
    is_released: bool = False


class FetchLog:
    """The log of one universe; a file that is not there yet reads as an empty one.

    Raises:
        StoreError: from every method: the file is locked, damaged, of a newer layout, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def record(self, session: pd.Timestamp, answers: Sequence[Answer]) -> None:
        """Write down what was answered on the evening of `session`; the first one of a kind counts."""
        evening = _day(session)
        rows = [
            (
                answer.symbol,
                evening,
                answer.outcome,
                int(answer.is_whole),
                _day(answer.asked_from),
                _instant(answer.observed_at),
                answer.bars,
                answer.reason,
            )
            for answer in answers
        ]
        with self._writing() as db:
            db.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def times_unknown(self) -> dict[str, int]:
        """Return on how many sessions in a row, up to the newest, the source knew no such symbol."""
        rows = self._select(
            "SELECT symbol, count(DISTINCT session) FROM answers AS a WHERE outcome = 'not_found' AND session > "
            "coalesce((SELECT max(session) FROM answers WHERE symbol = a.symbol AND outcome IN ('ok', 'empty')), '') "
            "GROUP BY symbol"
        )
        return {str(symbol): int(times) for symbol, times in rows}

    def heard_since(self, since: pd.Timestamp) -> dict[str, list[pd.Timestamp]] | None:
        """Return on which sessions from `since` on the source answered for a symbol, None where nothing is kept."""
        if not self.path.exists():
            return None
        heard: dict[str, list[pd.Timestamp]] = {}
        rows = self._select(
            "SELECT DISTINCT symbol, session FROM answers WHERE outcome IN ('ok', 'empty') AND session >= ?",
            _day(since),
        )
        for symbol, session in rows:
            heard.setdefault(symbol, []).append(pd.Timestamp(session))
        return heard

    def whole_from(self) -> dict[str, pd.Timestamp]:
        """Return from which session on the whole history of a symbol was had, the earliest one."""
        rows = self._select(
            "SELECT symbol, min(asked_from) FROM answers WHERE outcome = 'ok' AND is_whole = 1 GROUP BY symbol"
        )
        return {symbol: pd.Timestamp(day) for symbol, day in rows}

    def last_whole(self) -> dict[str, pd.Timestamp]:
        """Return on which evening the source last answered for the whole history of a symbol, whatever it said."""
        rows = self._select(
            "SELECT symbol, max(session) FROM answers WHERE is_whole = 1 AND outcome IN ('ok', 'empty', 'not_found') "
            "GROUP BY symbol"
        )
        return {symbol: pd.Timestamp(day) for symbol, day in rows}

    def holds(self) -> dict[str, QuarantineEntry]:
        """Return who is in quarantine now, by instrument_id."""
        held: dict[str, QuarantineEntry] = {}
        for at, instrument_id, symbol, event, rule, evidence in self._select(
            "SELECT at, instrument_id, symbol, event, rule, evidence FROM quarantine ORDER BY id"
        ):
            if event == "held":
                held[instrument_id] = QuarantineEntry(
                    instrument_id, symbol, datetime.fromisoformat(at), rule, evidence
                )
            elif event == "ended":
                held.pop(instrument_id, None)
            elif instrument_id in held:
                held[instrument_id] = replace(held[instrument_id], is_released=True)
        return held

    def released(self) -> set[str]:
        """Return the instrument_ids that a person has ever released."""
        return {
            id_
            for (id_,) in self._select(
                "SELECT DISTINCT instrument_id FROM quarantine WHERE event = 'released'"
            )
        }

    def events(self) -> pd.DataFrame:
        """Return everything that ever happened in quarantine: at, symbol, event, rule, evidence."""
        columns = ["at", "symbol", "event", "rule", "evidence"]
        return pd.DataFrame(
            self._select(f"SELECT {', '.join(columns)} FROM quarantine ORDER BY id"), columns=columns
        )

    def put(
        self, event: Literal["held", "released", "ended"], holds: Sequence[QuarantineEntry], at: datetime
    ) -> None:
        """Write down that these were held, released by a person, or are out again."""
        rows = [(_instant(at), h.instrument_id, h.symbol, event, h.rule, h.evidence) for h in holds]
        with self._writing() as db:
            db.executemany(
                "INSERT INTO quarantine (at, instrument_id, symbol, event, rule, evidence) VALUES (?, ?, ?, ?, ?, ?)",
                rows,
            )

    def _select(self, query: str, *values: str) -> list[tuple[str, ...]]:
        if not self.path.exists():
            return []
        with self._opened() as db:
            rows: list[tuple[str, ...]] = db.execute(query, values).fetchall()
        return rows

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._opened() as db:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)) as db:
                layout = db.execute("PRAGMA user_version").fetchone()[0]
                if layout > _LAYOUT:
                    raise self._unusable(f"a newer nextday made it (layout {layout})")
                if layout == 0:
                    db.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")
                yield db
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(str(error)) from None

    def _unusable(self, reason: str) -> StoreError:
        return StoreError(
            f"The log of what was fetched cannot be used: {reason:.200}",
            where=str(self.path),
            fix="see to disk space and rights, or put the file back from a backup; without one move it away: "
            "then the whole history of every symbol is asked for and compared once more",
        )


def _day(session: pd.Timestamp) -> str:
    return f"{session:%Y-%m-%d}"


def _instant(when: datetime) -> str:
    return pd.Timestamp(when).tz_convert("UTC").isoformat(timespec="microseconds")
