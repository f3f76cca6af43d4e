#!/usr/bin/env python3
"""Check a published nextday record: whether the rows are those that were sealed, and nothing was removed or moved.

    python3 verify.py [FOLDER] [--head HASH]

FOLDER is the published folder; default: the folder of this file. It needs Python 3.9 or newer and nothing else, reads
only files of that folder, and contacts nobody. Exit codes: 0 what is there is what was sealed, 1 it is not, 2 it cannot
be checked.

Whoever publishes a folder could publish a changed verifier with it: take this file from a copy that you trust, such as
a release of nextday (pipeline/publishing/verify.py), or read it: it is short.
"""

from __future__ import annotations

import argparse
import ast
import csv
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

GENESIS = "0" * 64
CHAINS = ("forecast", "outcome", "beginning")
FORMULA = ("=", "+", "-", "@", "\t", "\uff1d", "\uff0b", "\uff0d", "\uff20")

LIMITS = """What this cannot show:
- a second ledger, kept in secret, of which only the better one is published;
- a ledger that was rewritten as a whole before it was first published;
- rows left out before they were sealed, or batches cut off from the end.
The remedy: a head that was public before the open, for example in a git repository of somebody else or in a
time-stamping service. Compare it: verify.py --head HASH"""


class Batch:
    """One line of sealed/heads.csv; a batch of another universe shows no rows."""

    def __init__(self, cells: list[Any]) -> None:
        self.chain, self.number, self.universe, self.made_at = (
            str(cells[0]),
            int(cells[1]),
            cells[2],
            cells[3],
        )
        self.rows, self.prev_hash, self.hash, self.ledger_head = int(cells[4]), cells[5], cells[6], cells[7]

    @property
    def cells(self) -> list[Any]:
        """The cells of the line."""
        about = [self.universe, self.made_at, self.rows]
        return [self.chain, self.number, *about, self.prev_hash, self.hash, self.ledger_head]

    @property
    def is_shown(self) -> bool:
        """Whether its rows are published."""
        return self.rows > 0

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.chain} batch {self.number}" + (f" ({self.made_at[:10]})" if self.made_at else "")

    @property
    def path(self) -> str:
        """Its file."""
        return f"{self.chain}s/{self.number:06d}.js"


class Sealed:
    """The text of one batch: what was hashed, row by row."""

    def __init__(self, content: str) -> None:
        head, rows, digests, self.hash = read_call(content, "sealed")
        self.texts, self.digests = [str(row) for row in rows], [str(each) for each in digests]
        self.whole = f"{head}{','.join(self.texts)}]}}"
        facts = json.loads(f"{head}]}}")
        self.chain, self.header, self.columns = facts["chain"], facts["batch"], facts["columns"]
        self.rows = [self._read_row(json.loads(text)) for text in self.texts]

    def _read_row(self, cells: list[Any]) -> dict[str, Any]:
        return {str(name): cells[place] for place, name in enumerate(self.columns)}


def read_call(content: str, name: str) -> Any:
    """Return the arguments of a script that is one call: literals that JavaScript and Python read alike."""
    found = re.fullmatch(rf"{name}\((.*)\);\n?", content, re.S)
    if not found:
        raise ValueError(f"it is no call of {name}")
    return ast.literal_eval(f"({found[1]})")


def digest(text: str) -> str:
    """Return the sha256 of a text in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def name_row(place: int, row: dict[str, Any]) -> str:
    """Return what messages call a row."""
    keys = [row.get(key) for key in ("symbol", "as_of", "target_session", "target", "horizon")]
    known = ", ".join(str(key) for key in keys if key is not None)
    return f"row {place}" + (f" ({known})" if known else "")


def check_heads(batches: list[Batch]) -> Iterator[str]:
    """Yield what is wrong with the chains themselves."""
    last = dict.fromkeys(CHAINS, (0, GENESIS))
    for batch in batches:
        if batch.chain not in last:
            yield f"{batch.name}: there is no such chain"
            continue
        number, hash_ = last[batch.chain]
        if batch.number != number + 1:
            yield f"{batch.name}: it follows batch {number}: batches were removed or moved"
        elif batch.prev_hash != hash_:
            yield f"{batch.name}: it does not follow the hash of the batch before it: one was changed or removed"
        last[batch.chain] = (batch.number, batch.hash)
        if batch.ledger_head != join_heads(*(last[name][1] for name in CHAINS)):
            yield f"{batch.name}: the head of the ledger after it is not the hash of its chains: a head was changed"


def join_heads(forecasts: str, outcomes: str, beginnings: str) -> str:
    """Return the head of a ledger: the hash of the heads of its chains."""
    return digest(forecasts + outcomes + ("" if beginnings == GENESIS else beginnings))


def check_batch(batch: Batch, sealed: Sealed) -> Iterator[str]:
    """Yield what is wrong with a batch; the first broken row is named."""
    header = [batch.number, batch.universe, batch.made_at, batch.rows, batch.prev_hash]
    is_sealed = digest(sealed.whole) == batch.hash == sealed.hash
    if is_sealed and sealed.header == header and sealed.chain == batch.chain:
        return
    for place, (text, known) in enumerate(zip_longest(sealed.texts, sealed.digests), start=1):
        row = sealed.rows[place - 1] if text is not None else {}
        if text is None:
            yield f"{batch.name}: row {place} and what follows was removed"
            return
        if digest(text)[:8] != known:
            yield f"{batch.name}: {name_row(place, row)} is not the row that was sealed: it was changed, moved or added"
            return
    if len(sealed.texts) != batch.rows:
        yield f"{batch.name}: it was sealed with {batch.rows} rows and has {len(sealed.texts)}"
    else:
        yield f"{batch.name}: its own values or its hash were changed, or its rows together with their digests"


def check_times(batch: Batch, sealed: Sealed, latest: dict[str, str]) -> Iterator[str]:
    """Yield the rows that are marked live although their times make them late; `latest`: the last batch by universe."""
    if batch.chain != "forecast":
        return
    earlier = latest.get(batch.universe, "")
    for place, row in enumerate(sealed.rows, start=1):
        not_before = max(str(row.get("observed_at") or ""), earlier)
        issued, opens = str(row.get("issued_at")), str(row.get("opens_at") or "")
        if row.get("kind") == "live" and not not_before <= issued < opens:
            yield f"{batch.name}: {name_row(place, row)} is marked live, but its times make it late"
    latest[batch.universe] = max(earlier, batch.made_at)


def format_cell(value: Any) -> str:
    """Return a sealed value as the CSV writes it."""
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULA) else value
    return repr(value)


class Table:
    """The CSV of one chain, read beside its batches: a long record need not fit into memory."""

    def __init__(self, folder: Path, chain: str) -> None:
        self.path, self.is_over = folder / f"{chain}s.csv", False
        self.file = self.path.open(encoding="utf-8", newline="") if self.path.exists() else None
        self.lines = csv.DictReader(self.file or ())

    def check(self, batch: Batch, sealed: Sealed) -> Iterator[str]:
        """Yield the first row that is not the sealed one; columns that a batch was sealed without are free."""
        for place, row in enumerate(sealed.rows if self.file and not self.is_over else (), start=1):
            line = next(self.lines, None)
            name = f"{self.path.name}, {batch.name}: {name_row(place, row)}"
            if line is None:
                self.is_over = True
                yield f"{name} was removed, or rows before it"
                return
            cells = {"batch": str(batch.number), **{key: format_cell(value) for key, value in row.items()}}
            wrong = [key for key, cell in cells.items() if line.get(key) != cell]
            if wrong:
                self.is_over = True
                yield f"{name} is not the row that was sealed: {', '.join(wrong)} was changed, or rows were moved"
                return

    def close(self) -> Iterator[str]:
        """Yield the row that follows the last sealed one, and close the file."""
        if self.file:
            with self.file:
                line = None if self.is_over else next(self.lines, None)
            if line is not None:
                yield f"{self.path.name}: a row of batch {line.get('batch')} was added ({line.get('symbol')})"


def read_batches(folder: Path) -> list[Batch]:
    """Return the lines of heads.csv; the page's list of heads must be the same."""
    with (folder / "heads.csv").open(encoding="utf-8", newline="") as file:
        return [Batch(cells) for cells in list(csv.reader(file))[1:]]


def check_folder(folder: Path) -> tuple[list[str], list[Batch], dict[str, int]]:
    """Return what is wrong, the batches, and the number of rows of each chain."""
    batches = read_batches(folder)
    problems, latest = [*check_heads(batches)], dict[str, str]()
    rows, tables = dict.fromkeys(CHAINS, 0), {chain: Table(folder, chain) for chain in CHAINS}
    for batch in (each for each in batches if each.is_shown and each.chain in tables):
        table = tables[batch.chain]
        try:
            sealed = Sealed((folder / batch.path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            problems.append(f"{batch.name}: its file {batch.path} was removed")
            table.is_over = True
            continue
        except (
            OSError,
            ValueError,
            SyntaxError,
            LookupError,
            TypeError,
            RecursionError,
            MemoryError,
        ) as error:
            problems.append(f"{batch.name}: its file {batch.path} cannot be read: {error!s:.100}")
            table.is_over = True
            continue
        rows[batch.chain] += len(sealed.rows)
        problems += check_batch(batch, sealed)
        problems += check_times(batch, sealed, latest)
        problems += table.check(batch, sealed)
    for table in tables.values():
        problems += table.close()
    return [*problems, *check_files(folder, batches), *check_script(folder, batches)], batches, rows


def check_files(folder: Path, batches: list[Batch]) -> Iterator[str]:
    """Yield the files that look like batches and belong to none."""
    expected = {batch.path for batch in batches if batch.is_shown}
    for chain in CHAINS:
        for path in sorted(folder.glob(f"{chain}s/*.js")):
            if path.relative_to(folder).as_posix() not in expected:
                yield f"{chain}s/{path.name}: it is no part of the chain"


def check_script(folder: Path, batches: list[Batch]) -> Iterator[str]:
    """Yield whether the page reads other heads."""
    try:
        shown = read_call((folder / "heads.js").read_text(encoding="utf-8"), "heads")
        if shown != [batch.cells for batch in batches]:
            yield "heads.js: verify.html reads other heads than heads.csv has"
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError) as error:
        yield f"heads.js cannot be read: {error!s:.100}"


def find_head(head: str, batches: list[Batch]) -> str:
    """Return after which batch a head was the ledger's; empty if it never was."""
    for batch in batches:
        if batch.ledger_head == head:
            return batch.name
    hashes = {name: [GENESIS, *(b.hash for b in batches if b.chain == name)] for name in CHAINS}
    for beginning in hashes["beginning"]:
        for forecast in hashes["forecast"]:
            if any(join_heads(forecast, outcome, beginning) == head for outcome in hashes["outcome"]):
                return "some batches"
    return ""


def main() -> int:
    """Check the folder of the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--head", default="", help="a head that was noted or published earlier")
    arguments = parser.parse_args()
    folder = arguments.folder / "sealed"
    try:
        problems, batches, rows = check_folder(folder)
    except (OSError, ValueError, IndexError, csv.Error) as error:
        print(f"{folder} cannot be read: {error}", file=sys.stderr)
        return 2
    if arguments.head:
        after = find_head(arguments.head, batches)
        if after:
            print(f"that head was the ledger's after {after}")
        else:
            problems.append(
                f"{arguments.head} was never the head of this ledger: it was rewritten, or its end cut off"
            )
    hidden = sum(not batch.is_shown for batch in batches)
    print(f"{len(batches)} batches, {rows['forecast']} forecasts, {rows['outcome']} outcomes", end="")
    print(f"; {hidden} batches of other universes, known by their hashes alone" if hidden else "")
    for problem in problems:
        print(f"  {problem}")
    print("THIS IS NOT WHAT WAS SEALED" if problems else "what is published here is what was sealed")
    print(f"head {batches[-1].ledger_head if batches else join_heads(GENESIS, GENESIS, GENESIS)}")
    print("not checked: the Parquet files, which should hold the rows of the CSV files, and the pages")
    print(LIMITS)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
