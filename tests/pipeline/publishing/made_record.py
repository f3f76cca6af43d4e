"""A ledger of three evenings and its published folder, and every way in which a row could be changed afterwards."""

import csv
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pandas as pd

from pipeline.ledger.ledger import Ledger
from pipeline.publishing.publication import Published, publish
from tests.pipeline.ledger.test_ledger import EVENING, MONDAY, OPEN, TUESDAY, WEDNESDAY, forecasts, outcomes

THURSDAY = pd.Timestamp("2018-12-13")
DAY = timedelta(days=1)
SYMBOLS = ("AAPL", "BRK-B", "^GSPC")


def make_ledger(path: Path, universe: str = "sample") -> Ledger:
    """Seal three evenings of three symbols, and settle the first of them."""
    ledger, days = Ledger(path), (MONDAY, TUESDAY, WEDNESDAY)
    for place, (day, target) in enumerate(zip(days, (*days[1:], THURSDAY), strict=True)):
        now = EVENING + place * DAY
        if place == 1:
            settled = outcomes(
                *SYMBOLS, settled_at=now - timedelta(minutes=1), outcome=[1.0, 0.0, float("nan")]
            )
            ledger.settle(settled, universe=universe)
        rows = forecasts(
            *SYMBOLS, as_of=day, target_session=target, issued_at=now, p_up=[0.1 + 0.2, 1e-7, 0.52]
        )
        opens = {day: OPEN + place * DAY}
        ledger.issue(
            rows,
            universe=universe,
            opens=opens,
            newest_observed_at=now - timedelta(minutes=5),
            historical=False,
        )
    return ledger


def publish_to(
    target: Path, ledger: Ledger, *, everything: bool = False, universe: str = "sample"
) -> Published:
    """Publish a ledger with one page."""
    home = ledger.path.parent
    pages = home / "reports" / universe
    pages.mkdir(parents=True, exist_ok=True)
    (pages / "index.html").write_text("<!doctype html><title>the record</title><footer></footer>")
    return publish(
        ledger.path,
        pages,
        target,
        universe=universe,
        everything=everything,
        private=home,
        places={home: "(home)"},
    )


def run_verifier(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the published verify.py by a Python that sees nothing but its standard library."""
    command = [sys.executable, "-I", "-S", str(folder / "verify.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder.parent)


def alter(path: Path, old: str, new: str) -> None:
    """Replace a text that is there."""
    text = path.read_text()
    assert old in text, (path, old)
    path.write_text(text.replace(old, new, 1))


def move_lines(path: Path, first: int, second: int) -> None:
    """Swap two lines of a file."""
    lines = path.read_text().splitlines(keepends=True)
    lines[first], lines[second] = lines[second], lines[first]
    path.write_text("".join(lines))


def drop_line(path: Path, place: int) -> None:
    """Remove a line of a file."""
    lines = path.read_text().splitlines(keepends=True)
    del lines[place]
    path.write_text("".join(lines))


def edit_heads(sealed: Path, edit: Callable[[list[list[str]]], None]) -> None:
    """Change the heads, in both of their files alike."""
    with (sealed / "heads.csv").open(newline="") as file:
        columns, *lines = list(csv.reader(file))
    edit(lines)
    with (sealed / "heads.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *lines])
    cells = [[line[0], int(line[1]), line[2], line[3], int(line[4]), *line[5:]] for line in lines]
    listed = ",\n".join(json.dumps(line, separators=(",", ":")) for line in cells)
    (sealed / "heads.js").write_text(f"heads([\n{listed}\n]);\n")


def edit_ledger(path: Path, *statements: str) -> None:
    """Change the database itself, as somebody would who has its file: without its guards, which are put back."""
    with closing(sqlite3.connect(path)) as db:
        guards = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in guards:
            db.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            db.execute(statement)
        for _, text in guards:
            db.execute(text)
        db.commit()


@dataclass(frozen=True)
class Tampering:
    """One kind of change.

    Attributes:
        name: What it changes.
        published: Changes the folder sealed/ of a publication, as far as the page reads it.
        ledger: The same change as statements for the ledger.
        words: What the verifiers say of it.
    """

    name: str
    published: Callable[[Path], None]
    ledger: tuple[str, ...]
    words: str


def _set_head(place: int) -> Callable[[Path], None]:
    def edit(lines: list[list[str]]) -> None:
        lines[1][place] = "ab" * 32

    return lambda sealed: edit_heads(sealed, edit)


def _remove_batch(sealed: Path) -> None:
    def edit(lines: list[list[str]]) -> None:
        lines[:] = [line for line in lines if line[:2] != ["forecast", "2"]]

    edit_heads(sealed, edit)
    (sealed / "forecasts" / "000002.js").unlink()


def _change_with_digest(sealed: Path) -> None:
    from hashlib import sha256

    path = sealed / "forecasts" / "000002.js"
    row = path.read_text().splitlines()[1].removesuffix(",")[1:-1]
    changed = row.replace("0.30000000000000004", "0.9")
    assert changed != row
    alter(path, row, changed)
    alter(path, sha256(row.encode()).hexdigest()[:8], sha256(changed.encode()).hexdigest()[:8])


FORECASTS, OUTCOMES = "forecasts/000002.js", "outcomes/000001.js"

TAMPERINGS = [
    Tampering(
        "a probability",
        lambda sealed: alter(sealed / FORECASTS, "0.30000000000000004", "0.9"),
        ("UPDATE forecasts SET p_up = 0.9 WHERE batch = 2 AND symbol = 'AAPL'",),
        "forecast batch 2 (2018-12-11): row 1 (AAPL, 2018-12-11, 2018-12-12, 1)",
    ),
    Tampering(
        "the last digit of a probability",
        lambda sealed: alter(sealed / FORECASTS, "0.30000000000000004", "0.3"),
        ("UPDATE forecasts SET p_up = 0.3 WHERE batch = 2 AND symbol = 'AAPL'",),
        "forecast batch 2 (2018-12-11): row 1 (AAPL",
    ),
    Tampering(
        "an outcome",
        lambda sealed: alter(sealed / OUTCOMES, "1.0,0.0125", "0.0,0.0125"),
        ("UPDATE outcomes SET outcome = 0.0 WHERE symbol = 'AAPL'",),
        "outcome batch 1 (2018-12-11): row 1 (AAPL, 2018-12-10, 2018-12-11, 1)",
    ),
    Tampering(
        "the time of a forecast",
        lambda sealed: alter(
            sealed / FORECASTS, '"2018-12-11T22:00:00.000000+00:00"', '"2018-12-11T21:58:00.000000+00:00"'
        ),
        (
            "UPDATE forecasts SET issued_at = '2018-12-11T21:58:00.000000+00:00' WHERE batch = 2 AND symbol = 'AAPL'",
        ),
        "forecast batch 2 (2018-12-11)",
    ),
    Tampering(
        "the hash of a batch",
        _set_head(6),
        (f"UPDATE outcome_batches SET hash = '{'ab' * 32}' WHERE number = 1",),
        "outcome batch 1 (2018-12-11)",
    ),
    Tampering(
        "the head after a batch",
        _set_head(7),
        (f"UPDATE forecast_batches SET prev_hash = '{'ab' * 32}' WHERE number = 2",),
        "a head was changed",
    ),
    Tampering(
        "a removed row",
        lambda sealed: drop_line(sealed / FORECASTS, 2),
        ("DELETE FROM forecasts WHERE batch = 2 AND symbol = 'BRK-B'",),
        "forecast batch 2 (2018-12-11): row 2 (^GSPC",
    ),
    Tampering(
        "the last row removed",
        lambda sealed: (drop_line(sealed / FORECASTS, 3), None)[1],
        ("DELETE FROM forecasts WHERE batch = 2 AND symbol = '^GSPC'",),
        "forecast batch 2 (2018-12-11): row 3 and what follows was removed",
    ),
    Tampering(
        "rows in another order",
        lambda sealed: move_lines(sealed / FORECASTS, 1, 2),
        (
            "UPDATE forecasts SET symbol = 'X' WHERE batch = 2 AND symbol = 'AAPL'",
            "UPDATE forecasts SET symbol = 'AAPL' WHERE batch = 2 AND symbol = 'BRK-B'",
            "UPDATE forecasts SET symbol = 'BRK-B' WHERE batch = 2 AND symbol = 'X'",
        ),
        "forecast batch 2 (2018-12-11): row 1 (BRK-B",
    ),
    Tampering(
        "a removed batch",
        _remove_batch,
        ("DELETE FROM forecasts WHERE batch = 2", "DELETE FROM forecast_batches WHERE number = 2"),
        "forecast batch 3 (2018-12-12): it follows batch 1: batches were removed or moved",
    ),
    Tampering(
        "a row together with its digest",
        _change_with_digest,
        ("UPDATE forecasts SET p_up = 0.9 WHERE batch = 2",),
        "forecast batch 2 (2018-12-11): its own values or its hash were changed",
    ),
]
