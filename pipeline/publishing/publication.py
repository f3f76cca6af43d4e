"""Publish a universe: its pages, the sealed rows, and what checks them, in one folder for any web server."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.errors import NextdayError
from pipeline.ledger.sealed_batches import list_batches, open_sealed
from pipeline.publishing.evidence import list_evidence, list_tables
from pipeline.publishing.folder import PublishedFolder
from pipeline.publishing.pages import hide_places, link_verifier, list_pages
from pipeline.storage.ledger_database import LedgerPlace

__all__ = ["VERIFIERS", "Published", "publish", "read_verifier"]

VERIFIERS: Final = ("verify.py", "verify.js", "verify.html")
"""What checks the evidence: by Python's standard library, and in a browser."""


@dataclass(frozen=True)
class Published:
    """What was published: the number of pages and batches, how many files changed, and the ledger's head."""

    folder: Path
    pages: int
    batches: int
    written: int
    removed: int
    ledger_head: str


def publish(
    ledger: LedgerPlace,
    reports: Path,
    target: Path,
    *,
    universe: str,
    everything: bool,
    private: Path,
    places: Mapping[Path, str],
) -> Published:
    """Write the published folder; a second time only what changed.

    Args:
        ledger: The ledger's file or database.
        reports: The universe's folder of reports.
        target: The folder to publish to.
        universe: The universe's name.
        everything: Show the sealed rows of every universe, not only of this one.
        private: The workspace, which must lie apart.
        places: A word for each folder of this machine that pages may name.

    Raises:
        InputError: the folder cannot be used, see `PublishedFolder.open`.
        LedgerError: the ledger's seal is broken: nothing is written.
        NextdayError: a file cannot be read or written.
    """
    shown = None if everything else universe
    with ExitStack() as held:
        db = held.enter_context(open_sealed(ledger))
        batches, pages = list_batches(db), [*list_pages(reports)]
        files = [*list_tables(db, shown), *list_evidence(db, shown)]
        makers: dict[str, Callable[[], bytes]] = {name: _page_maker(reports, name, places) for name in pages}
        makers |= {file.path: file.make for file in files}
        makers |= {name: _verifier_maker(name) for name in VERIFIERS}
        folder = PublishedFolder.open(target, [private], makers)
        for path, make in makers.items():
            folder.put(path, make())
    folder.finish()
    head = batches[-1].ledger_head if batches else ""
    return Published(target, len(pages), len(batches), folder.written, folder.removed, head)


def read_verifier(name: str) -> bytes:
    """Return the content of one of VERIFIERS."""
    return Path(__file__).with_name(name).read_bytes()


def _verifier_maker(name: str) -> Callable[[], bytes]:
    return lambda: read_verifier(name)


def _page_maker(reports: Path, name: str, places: Mapping[Path, str]) -> Callable[[], bytes]:
    def make() -> bytes:
        try:
            content = (reports / name).read_bytes()
        except OSError as error:
            raise NextdayError(
                f"A page cannot be read: {error.strerror}",
                where=str(reports / name),
                fix="run this again: a nightly run may just have removed it",
            ) from None
        return link_verifier(name, hide_places(name, content, places))

    return make
