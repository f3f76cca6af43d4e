"""The files that prove the record: each sealed batch as the text that was hashed, and the heads of the chains.

A browser does not read files beside a page that was opened from a disk, but runs scripts there. So each batch is a
script that calls one function with the text, which is also a Python literal: verify.html and verify.py read the same.
"""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.ledger.backends import Connection
from pipeline.ledger.sealed_batches import (
    SealedBatch,
    SealedText,
    list_batches,
    list_columns,
    read_cells,
    read_table,
    read_text,
)
from pipeline.storage.csv_output import disarm

__all__ = ["FOLDER", "EvidenceFile", "list_evidence", "list_tables"]

FOLDER: Final = "sealed"
"""The folder of the evidence in a published folder."""

_COLUMNS: Final = ("chain", "batch", "universe", "made_at", "rows", "prev_hash", "hash", "ledger_head")


@dataclass(frozen=True)
class EvidenceFile:
    """One file of the evidence.

    Attributes:
        path: Its path in the folder, with slashes.
        make: Returns its content.
        ending: The bytes that it ends with, which hold the hash of a batch; empty where it grows with the ledger.
        batch: "forecast batch 3"; empty where it is none.
    """

    path: str
    make: Callable[[], bytes]
    ending: bytes = b""
    batch: str = ""

    def is_written(self, file: Path) -> bool:
        """Whether a file holds this batch: told by its end, so that a long record need not be read each evening."""
        return bool(self.ending) and file.is_file() and _read_tail(file, len(self.ending)) == self.ending


def list_evidence(db: Connection, universe: str | None) -> list[EvidenceFile]:
    """Return the files of the sealed batches and of the heads, without making their content.

    Batches of other universes keep their place in the chain by their hash; nothing else of them is told.

    Args:
        db: The open ledger.
        universe: Whose rows are shown; None: those of every universe.
    """
    batches = list_batches(db)
    shown = [batch for batch in batches if _is_shown(batch, universe)]
    heads = [_head_cells(batch, universe) for batch in batches]
    return [
        *(_batch_file(db, batch) for batch in shown),
        EvidenceFile(f"{FOLDER}/heads.csv", lambda: _format_csv(_COLUMNS, heads)),
        EvidenceFile(f"{FOLDER}/heads.js", lambda: _format_heads(heads)),
    ]


def list_tables(db: Connection, universe: str | None) -> list[EvidenceFile]:
    """Return the files with the rows of the batches as tables: CSV, and for forecasts and outcomes Parquet."""
    shown = [batch for batch in list_batches(db) if _is_shown(batch, universe)]
    files = []
    for chain in dict.fromkeys(["forecast", "outcome", *(batch.chain for batch in shown)]):
        own = [batch for batch in shown if batch.chain == chain]
        files.append(EvidenceFile(f"{FOLDER}/{chain}s.csv", _delay(_format_table, db, chain, own)))
        if chain != "beginning":
            made = _delay(_format_parquet, db, chain, universe)
            files.append(EvidenceFile(f"{FOLDER}/{chain}s.parquet", made))
    return files


def _delay(make: Callable[..., bytes], *arguments: Any) -> Callable[[], bytes]:
    return lambda: make(*arguments)


def _is_shown(batch: SealedBatch, universe: str | None) -> bool:
    return universe is None or batch.universe in (universe, "")


def _head_cells(batch: SealedBatch, universe: str | None) -> list[Any]:
    about = [batch.universe, batch.made_at, batch.n] if _is_shown(batch, universe) else ["", "", 0]
    return [batch.chain, batch.number, *about, batch.prev_hash, batch.hash, batch.ledger_head]


def _batch_file(db: Connection, batch: SealedBatch) -> EvidenceFile:
    path = f"{FOLDER}/{batch.chain}s/{batch.number:06d}.js"
    ending = f"],{_quote(batch.hash)});\n".encode()
    return EvidenceFile(
        path,
        lambda: _format_batch(read_text(db, batch), batch.hash),
        ending,
        f"{batch.chain} batch {batch.number}",
    )


def _format_batch(text: SealedText, hash_: str) -> bytes:
    """Return the script of a batch: its text row by row, a short digest of each row to find a changed one, its hash."""
    rows = ",\n".join(map(_quote, text.rows))
    digests = ",".join(_quote(hashlib.sha256(row.encode()).hexdigest()[:8]) for row in text.rows)
    return f"sealed({_quote(text.head)},[\n{rows}\n],[{digests}],{_quote(hash_)});\n".encode()


def _format_heads(heads: list[list[Any]]) -> bytes:
    lines = ",\n".join(json.dumps(cells, separators=(",", ":")) for cells in heads)
    return f"heads([\n{lines}\n]);\n".encode()


def _format_csv(columns: tuple[str, ...], rows: Iterable[list[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([disarm(cell) for cell in row] for row in rows)
    return text.getvalue().encode()


def _format_table(db: Connection, chain: str, batches: list[SealedBatch]) -> bytes:
    """Return the rows of the batches of one chain as CSV, as they were sealed and in that order."""
    columns = ("batch", *list_columns(chain))
    return _format_csv(
        columns, ([batch.number, *cells] for batch in batches for cells in read_cells(db, batch))
    )


def _format_parquet(db: Connection, chain: str, universe: str | None) -> bytes:
    content: bytes = read_table(db, f"{chain}s", universe).to_parquet(index=False)
    return content


def _quote(text: str) -> str:
    """Return an ASCII text without line breaks as a literal that JavaScript and Python read alike."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _read_tail(file: Path, size: int) -> bytes:
    with file.open("rb") as opened:
        opened.seek(max(file.stat().st_size - size, 0))
        return opened.read()
