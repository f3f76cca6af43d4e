"""Recompute the chains of a ledger: in full with every problem named, or once per run before its rows are used."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from pipeline.errors import LedgerError
from pipeline.ledger import hash_chain, known_head
from pipeline.ledger.backends import Cells, Connection, Row
from pipeline.ledger.hash_chain import Chain, Head
from pipeline.storage.ledger_database import LedgerDatabase, LedgerPlace

__all__ = ["Verification", "check", "check_end", "find_problems", "verify"]


@dataclass(frozen=True)
class Verification:
    """The counts of a verification and the problems it found, each with its batch or row.

    `beginnings` are the losses that were accepted, oldest first, one sentence each.
    """

    batches: int
    forecasts: int
    outcomes: int
    head: Head
    problems: list[str]
    beginnings: list[str]

    @property
    def ok(self) -> bool:
        """Whether no problem was found."""
        return not self.problems


def check(db: Connection, path: LedgerPlace) -> None:
    """Refuse a ledger that lacks batches that were sealed, or whose rows are not those that were.

    The chains are recomputed once per process and state of the ledger.

    Raises:
        LedgerError: what is lost or changed, with its batch.
    """
    check_end(db, path)
    state = _read_state(db, path)
    if _checked.get(path) != state:
        for problem in (*db.find_damage(with_beginnings=_has_losses(db)), *_seal_problems(db)):
            raise LedgerError(
                f"The ledger's seal is broken: {problem}",
                where=str(path),
                fix=f"`nextday ledger verify` lists every change; {known_head.RECOVER}",
            )
        _checked[path] = state


_checked: dict[LedgerPlace, object] = {}
"""What this process has recomputed: the state of each ledger."""


def _read_state(db: Connection, path: LedgerPlace) -> object:
    """Return what changes with every batch: the state of the files, or on PostgreSQL the heads."""
    if isinstance(path, LedgerDatabase):
        return hash_chain.find_head(db)
    return tuple(
        (facts.st_ino, facts.st_size, facts.st_mtime_ns)
        for facts in (each.stat() for each in (path, Path(f"{path}-wal")) if each.exists())
    )


def check_end(db: Connection, path: LedgerPlace) -> None:
    """Refuse a ledger that lacks batches that were sealed.

    Raises:
        LedgerError: what is lost.
    """
    if loss := known_head.find_loss(path, db):
        raise LedgerError(f"The ledger lost sealed rows: {loss}", where=str(path), fix=known_head.RECOVER)


def verify(db: Connection, path: LedgerPlace, expected_head: str | None = None) -> Verification:
    """Recompute both chains and check the file, its layout and the times of live rows.

    Args:
        db: The open ledger.
        path: Its file.
        expected_head: A head noted earlier, which must be part of the ledger's history.
    """
    problems = [*find_problems(db), *db.find_foreign_parts(with_beginnings=_has_losses(db))]
    try:
        loss = known_head.find_loss(path, db)
    except LedgerError as error:
        loss = error.what
    problems += [loss] if loss else []
    chains = [_hashes(db, chain) for chain in hash_chain.list_chains(db)]
    if expected_head is not None and not _was_head(expected_head, chains):
        problems.append(
            f"{expected_head} was never the head of this ledger: batches were removed or rewritten"
        )
    return Verification(
        batches=sum(len(hashes) - 1 for hashes in chains[:2]),
        forecasts=_count(db, hash_chain.FORECAST),
        outcomes=_count(db, hash_chain.OUTCOME),
        head=hash_chain.head(db),
        problems=problems,
        beginnings=hash_chain.list_beginnings(db),
    )


def find_problems(db: Connection) -> list[str]:
    """Return what is wrong with the ledger as it is, each with its batch or row, without the noted head."""
    return [*db.find_damage(with_beginnings=_has_losses(db)), *_seal_problems(db), *_live_problems(db)]


def _was_head(expected: str, chains: list[list[str]]) -> bool:
    return any(Head(*hashes).hash == expected for hashes in product(*map(reversed, chains)))


def _has_losses(db: Connection) -> bool:
    return hash_chain.BEGINNING in hash_chain.list_chains(db)


def _seal_problems(db: Connection) -> Iterator[str]:
    for chain in hash_chain.list_chains(db):
        yield from _chain_problems(db, chain)


def _chain_problems(db: Connection, chain: Chain) -> Iterator[str]:
    number, last_hash = 0, hash_chain.GENESIS
    for batch in db.execute(f"SELECT * FROM {chain.name}_batches ORDER BY number"):
        rows = hash_chain.read_rows(db, chain, batch["number"])
        name = _describe_batch(chain, batch, rows)
        if batch["number"] != number + 1:
            yield f"{name}: it follows batch {number}: batches between them were removed"
        elif batch["prev_hash"] != last_hash:
            yield f"{name}: it does not contain the hash of the batch before it: one was changed, removed or moved"
        if batch["n"] != len(rows):
            yield f"{name}: it was sealed with {batch['n']} rows and has {len(rows)}: rows were removed or added"
        elif batch["hash"] != hash_chain.compute_hash(chain, list(batch)[:-1], rows):
            yield f"{name}: its hash does not match its rows: a value was changed"
        number, last_hash = batch["number"], batch["hash"]
    batches = f"SELECT number FROM {chain.name}_batches"
    for (orphan,) in db.execute(f"SELECT DISTINCT batch FROM {chain.name}s WHERE batch NOT IN ({batches})"):
        yield f"{chain.name} batch {orphan}: it has rows, but is not sealed"


def _describe_batch(chain: Chain, batch: Row, rows: list[Cells]) -> str:
    place = chain.columns.index(chain.day)
    days = [day[:10] for day in sorted({row[place] for row in rows})] or ["unknown"]
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return (
        f"{chain.name} batch {batch['number']} ({batch['universe'] or 'all universes'}, {chain.day} {span})"
    )


def _live_problems(db: Connection) -> Iterator[str]:
    query = """
        WITH earlier AS (SELECT number, max(made_at) OVER (PARTITION BY universe ORDER BY number
          ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS last FROM forecast_batches)
        SELECT batch, universe, symbol, as_of FROM forecasts JOIN earlier ON number = batch
        WHERE kind = 'live' AND (issued_at < opens_at AND issued_at >= observed_at
          AND issued_at >= coalesce(last, '')) IS NOT TRUE
    """
    for row in db.execute(query):
        batch = f"forecast batch {row['batch']} ({row['universe']}, as_of {row['as_of']})"
        yield f"{batch}: {row['symbol']} is marked live, but its times make it late"


def _hashes(db: Connection, chain: Chain) -> list[str]:
    return [
        hash_chain.GENESIS,
        *(row[0] for row in db.execute(f"SELECT hash FROM {chain.name}_batches ORDER BY number")),
    ]


def _count(db: Connection, chain: Chain) -> int:
    return int(db.execute(f"SELECT count(*) FROM {chain.name}s").fetchone()[0])
