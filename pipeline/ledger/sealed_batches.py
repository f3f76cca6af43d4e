"""What was sealed, as it was hashed: batch by batch for who publishes or checks it, and as tables with types."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from pipeline.ledger import hash_chain, verification
from pipeline.ledger.backends import Connection, declared_types
from pipeline.ledger.hash_chain import Head
from pipeline.storage.ledger_database import LedgerPlace

__all__ = [
    "SealedBatch",
    "SealedText",
    "list_batches",
    "list_columns",
    "open_sealed",
    "read_cells",
    "read_table",
    "read_text",
]

_DAYS: Final = ("as_of", "target_session")
_INSTANTS: Final = ("issued_at", "opens_at", "observed_at", "settled_at", "accepted_at", "made_at")
_TYPES: Final = {"INTEGER": "int64", "REAL": "float64", "TEXT": "str"}


_CHAINS: Final = {
    chain.name: chain for chain in (hash_chain.FORECAST, hash_chain.OUTCOME, hash_chain.BEGINNING)
}
_ORDERS: Final = {
    "forecasts": f"batch, {hash_chain.FORECAST.order}",
    "outcomes": f"batch, {hash_chain.OUTCOME.order}",
    "record": "universe, as_of, symbol, target_session, horizon, target, role DESC, model_version",
}


@dataclass(frozen=True)
class SealedBatch:
    """One sealed batch of one chain.

    Attributes:
        chain: forecast, outcome or beginning (an accepted loss).
        number: Its place in the chain, from 1 on.
        universe: Whose rows it holds; empty for an accepted loss.
        made_at: The latest time of its rows (UTC, ISO 8601).
        n: The number of its rows.
        prev_hash: The hash of the batch before it in its chain.
        hash: Its own.
        ledger_head: The head of the ledger after it.
    """

    chain: str
    number: int
    universe: str
    made_at: str
    n: int
    prev_hash: str
    hash: str
    ledger_head: str


@dataclass(frozen=True)
class SealedText:
    """The text whose sha256 is the hash of a batch: `head`, the rows joined by commas, and `]}`.

    Attributes:
        head: The batch's own values and the names of the columns, up to the bracket that opens the rows.
        rows: One JSON array per row.
    """

    head: str
    rows: list[str]

    @property
    def whole(self) -> str:
        """The text that is hashed."""
        return f"{self.head}{','.join(self.rows)}]}}"


@contextmanager
def open_sealed(ledger: LedgerPlace) -> Iterator[Connection]:
    """Open a ledger for reading, after checking that its rows are those that were sealed.

    Raises:
        LedgerError: it is missing, damaged, or its seal is broken.
    """
    with hash_chain.opened(ledger) as db:
        db.begin_reading()
        verification.check(db, ledger)
        yield db


def list_batches(db: Connection) -> list[SealedBatch]:
    """Return every batch of every chain in the order of sealing.

    Each chain knows its own order. Between them the times decide, and at equal times outcomes come first, as they do
    in an evening.
    """
    chains = hash_chain.list_chains(db)
    waiting = {
        chain.name: db.execute(f"SELECT * FROM {chain.name}_batches ORDER BY number").fetchall()[::-1]
        for chain in chains
    }
    ends, made = {chain.name: hash_chain.GENESIS for chain in chains}, list[SealedBatch]()
    while any(waiting.values()):
        first = min(
            (name for name in waiting if waiting[name]),
            key=lambda name: (waiting[name][-1]["made_at"], name != "outcome"),
        )
        batch = waiting[first].pop()
        ends[first] = batch["hash"]
        cells: tuple[Any, ...] = (first, *batch, Head(*ends.values()).hash)
        made.append(SealedBatch(*cells))
    return made


def read_text(db: Connection, batch: SealedBatch) -> SealedText:
    """Return the text of a batch, as it was hashed."""
    chain = _CHAINS[batch.chain]
    header = [batch.number, batch.universe, batch.made_at, batch.n, batch.prev_hash]
    whole = hash_chain.format_content(chain, header, hash_chain.read_rows(db, chain, batch.number))
    rows = [_format_row(row) for row in json.loads(whole)["rows"]]
    return SealedText(whole.removesuffix(f"{','.join(rows)}]}}"), rows)


def list_columns(chain: str) -> tuple[str, ...]:
    """Return the columns of a chain's rows."""
    return _CHAINS[chain].columns


def read_cells(db: Connection, batch: SealedBatch) -> list[list[Any]]:
    """Return the rows of a batch in the order of the seal: the cells of `list_columns`, as they are stored."""
    return [[*row] for row in hash_chain.read_rows(db, _CHAINS[batch.chain], batch.number)]


def read_table(db: Connection, table: str, universe: str | None = None) -> pd.DataFrame:
    """Return the rows of a table or view of the ledger with the types of its columns.

    Args:
        db: The open ledger.
        table: forecasts or outcomes, in the order of the seal; or record, every forecast with its first outcome, in
            the order of the CSV.
        universe: Only the rows of this universe; None: all.
    """
    declared = declared_types(table)
    where = "CAST(:universe AS TEXT) IS NULL OR universe = :universe"
    rows = db.execute(
        f"SELECT * FROM {table} WHERE {where} ORDER BY {_ORDERS[table]}", {"universe": universe}
    )
    frame = pd.DataFrame([tuple(row) for row in rows], columns=[*declared])
    types: dict[Any, Any] = {name: _TYPES[kind] for name, kind in declared.items()}
    return frame.astype(types).assign(
        **{name: _as_time(frame[name], name) for name in declared if name in (*_DAYS, *_INSTANTS)}
    )


def _as_time(texts: "pd.Series[Any]", name: str) -> "pd.Series[Any]":
    kind: Any = "datetime64[us]" if name in _DAYS else "datetime64[us, UTC]"
    return pd.to_datetime(texts, utc=name in _INSTANTS, format="ISO8601").astype(kind)


def _format_row(row: list[Any]) -> str:
    return json.dumps(row, separators=(",", ":"))
