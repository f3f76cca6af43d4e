"""Copy a ledger from one database to another: every sealed row and hash as it is, in one transaction."""

from collections.abc import Callable

from pipeline.errors import InputError, LedgerError
from pipeline.ledger import hash_chain, known_head, verification
from pipeline.ledger.backends import Connection
from pipeline.ledger.hash_chain import BEGINNING, Head
from pipeline.storage.ledger_database import LedgerPlace

__all__ = ["migrate"]


def migrate(
    source: LedgerPlace, target: LedgerPlace, *, copy_the_rest: Callable[[], object] = lambda: None
) -> Head:
    """Copy a ledger into an empty place; verify it before, and the copy before it is committed.

    Both ledgers are locked meanwhile, so that no batch is sealed in one of them alone. A copy that is interrupted
    leaves the target empty. The source stays as it is.

    Args:
        source: Where it is.
        target: Where the copy will be.
        copy_the_rest: Called before the copy is committed: from then on the target refuses another one.

    Returns:
        The head of both.

    Raises:
        InputError: the source is the target, or the target holds batches.
        LedgerError: the source is missing or its seal is broken; or the copy does not verify: nothing is kept.
    """
    if source == target:
        raise InputError("The ledger is there already", where=str(target), fix="name another place with --to")
    if not known_head.ledger_exists(source):
        raise LedgerError("There is no ledger to copy", where=str(source), fix="nextday forecast makes one")
    hash_chain.create(target)
    with hash_chain.opened(source) as old, hash_chain.opened(target) as new:
        if BEGINNING in hash_chain.list_chains(old):
            new.make_beginnings()
        old.begin_writing()
        new.begin_writing()
        _require_whole(old, source)
        if hash_chain.head(new) != Head(hash_chain.GENESIS, hash_chain.GENESIS):
            raise InputError(
                "The target holds a ledger already, and a copy overwrites nothing",
                where=str(target),
                fix="name an empty schema or workspace, or move that ledger away",
            )
        _copy(old, new)
        problems = verification.find_problems(new)
        if problems or hash_chain.head(new) != hash_chain.head(old):
            raise LedgerError(
                f"The copy is not the ledger, and is not kept: {(problems or ['its head differs'])[0]}",
                where=str(target),
            )
        copy_the_rest()
        head, noted = hash_chain.head(new), hash_chain.find_head(new)
        new.execute("COMMIT")
    known_head.note(target, noted)
    return head


def _require_whole(db: Connection, place: LedgerPlace) -> None:
    verification.check_end(db, place)
    for problem in verification.find_problems(db):
        raise LedgerError(
            f"The ledger's seal is broken, and is not copied: {problem}",
            where=str(place),
            fix=known_head.RECOVER,
        )


def _copy(old: Connection, new: Connection) -> None:
    for chain in hash_chain.list_chains(old):
        for batch in old.execute(f"SELECT * FROM {chain.name}_batches ORDER BY number").fetchall():
            number = batch["number"]
            rows = [
                {"batch": number, **dict(zip(chain.columns, row, strict=True))}
                for row in hash_chain.read_rows(old, chain, number)
            ]
            new.insert(f"{chain.name}s", ("batch", *chain.columns), rows)
            names = ("number", "universe", "made_at", "n", "prev_hash", "hash")
            new.insert(f"{chain.name}_batches", names, [{name: batch[name] for name in names}])
