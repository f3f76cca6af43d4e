"""The fetch log: the source's answers by symbol and session, and the quarantine.

It lies beside the price store, or with the ledger on PostgreSQL, for all machines. Rows are only added; the current
state follows from the newest ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

import pandas as pd

from pipeline.errors import printable
from pipeline.prices.ingest.fetch_log_tables import open_tables
from pipeline.sources import Outcome
from pipeline.storage.ledger_database import FetchLogPlace

__all__ = ["Answer", "FetchLog", "QuarantineEntry"]


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
    """The fetch log of one universe; one that was never written reads as an empty log.

    Raises:
        StoreError: in every method: it is locked, damaged, of a newer layout, or cannot be written.
        StoreUnreachableError: in every method: its database cannot be reached.
    """

    def __init__(self, place: FetchLogPlace) -> None:
        self.place, self._tables = place, open_tables(place)

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
                printable(answer.reason),
            )
            for answer in answers
        ]
        with self._tables.writing() as log:
            log.add("answers", rows)

    def not_found_streaks(self) -> dict[str, int]:
        """Return, by symbol, the number of sessions with `not_found` since the last `ok` or `empty` answer."""
        rows = self._tables.select(
            "SELECT symbol, count(DISTINCT session) FROM answers AS a WHERE outcome = 'not_found' AND session > "
            "coalesce((SELECT max(session) FROM answers WHERE symbol = a.symbol AND outcome IN ('ok', 'empty')), '') "
            "GROUP BY symbol"
        )
        return {str(symbol): int(times) for symbol, times in rows}

    def answered_since(self, since: pd.Timestamp) -> dict[str, list[pd.Timestamp]] | None:
        """Return, by symbol, the sessions from `since` on with an `ok` or `empty` answer; None without a log."""
        if not self._tables.exist():
            return None
        answered: dict[str, list[pd.Timestamp]] = {}
        rows = self._tables.select(
            "SELECT DISTINCT symbol, session FROM answers WHERE outcome IN ('ok', 'empty') AND session >= ?",
            _day(since),
        )
        for symbol, session in rows:
            answered.setdefault(symbol, []).append(pd.Timestamp(session))
        return answered

    def whole_from(self) -> dict[str, pd.Timestamp]:
        """Return, by symbol, the earliest start of a whole history that the source delivered."""
        rows = self._tables.select(
            "SELECT symbol, min(asked_from) FROM answers WHERE outcome = 'ok' AND is_whole = 1 GROUP BY symbol"
        )
        return {symbol: pd.Timestamp(day) for symbol, day in rows}

    def last_whole_answer(self) -> dict[str, pd.Timestamp]:
        """Return, by symbol, the session of the last `ok`, `empty` or `not_found` answer to a whole-history request."""
        rows = self._tables.select(
            "SELECT symbol, max(session) FROM answers WHERE is_whole = 1 AND outcome IN ('ok', 'empty', 'not_found') "
            "GROUP BY symbol"
        )
        return {symbol: pd.Timestamp(day) for symbol, day in rows}

    def quarantined(self) -> dict[str, QuarantineEntry]:
        """Return the entries now in quarantine, by instrument_id."""
        entries: dict[str, QuarantineEntry] = {}
        for at, instrument_id, symbol, event, rule, evidence in self._tables.select(
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
            for (id_,) in self._tables.select(
                "SELECT DISTINCT instrument_id FROM quarantine WHERE event = 'released'"
            )
        }

    def events(self) -> pd.DataFrame:
        """Return all quarantine events, oldest first: at, symbol, event, rule, evidence."""
        columns = ["at", "symbol", "event", "rule", "evidence"]
        return pd.DataFrame(
            self._tables.select(f"SELECT {', '.join(columns)} FROM quarantine ORDER BY id"), columns=columns
        )

    def record_quarantine(
        self, event: Literal["held", "released", "ended"], entries: Sequence[QuarantineEntry], at: datetime
    ) -> None:
        """Record that these entries went into quarantine, were released by the user, or left it."""
        with self._tables.writing() as log:
            ((last,),) = log.select("SELECT coalesce(max(id), 0) FROM quarantine")
            log.add(
                "quarantine",
                [
                    (id_, _instant(at), e.instrument_id, e.symbol, event, e.rule, e.evidence)
                    for id_, e in enumerate(entries, start=last + 1)
                ],
            )


def _day(session: pd.Timestamp) -> str:
    return f"{session:%Y-%m-%d}"


def _instant(when: datetime) -> str:
    return pd.Timestamp(when).tz_convert("UTC").isoformat(timespec="microseconds")
