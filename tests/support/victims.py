"""Processes that may be killed at any moment: writers of prices and copiers of a workspace.

They import the pipeline alone, once: each is a fork of a process that has done so (multiprocessing's forkserver).
Each append touches several years, so several files; and bars of old years are revised every time.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from models.ensembles.model_files import model_version
from pipeline.backup.backup import back_up, restore
from pipeline.prices import delta_table
from pipeline.prices.store import PriceStore
from pipeline.schema import PRICES

CONTEXT = multiprocessing.get_context("forkserver")
SESSIONS = pd.bdate_range("2018-12-10", periods=40).astype("datetime64[us]")
"""They reach into January."""

_START = datetime(2018, 12, 10, 23, tzinfo=UTC)


@contextmanager
def ready_to_fork() -> Iterator[None]:
    """Keep the process that all of them are forked from for the block."""
    CONTEXT.set_forkserver_preload(["tests.support.victims"])
    forkserver.ensure_running()
    try:
        yield
    finally:
        for each in multiprocessing.active_children():  # of a test that has failed
            each.kill()
            each.join()
        # It has no public end, and would live as long as pytest.
        forkserver._forkserver._stop()  # type: ignore[attr-defined]


@contextmanager
def unseen(title: str, total: int) -> Iterator[Callable[[str], None]]:
    """Show no progress."""
    yield lambda words: None


def copy_workspace(home: Path, target: Path) -> None:
    """Make a backup."""
    back_up(home, target, now=_START, keep=1, progress=unseen, digest=model_version)


def restore_workspace(archive: Path, home: Path) -> None:
    """Restore one."""
    restore(archive, home, progress=unseen)


def bars(
    evening: int, symbols: dict[str, pd.Timestamp], close: float, status: str = "settled"
) -> pd.DataFrame:
    """Return one bar per symbol at its session."""
    rows = pd.DataFrame({"symbol": [*symbols], "session": [*symbols.values()]})
    price = close + np.arange(len(rows), dtype=float)
    rows = rows.assign(instrument_id=rows["symbol"], volume=1e6, dividend=0.0, split=1.0)
    rows = rows.assign(**dict.fromkeys(["open", "high", "low", "close"], price), status=status, source="test")
    rows = rows.assign(vendor_close=np.nan, vendor_adj_close=np.nan, adjustment="split", currency="USD")
    rows = rows.assign(observed_at=pd.Timestamp(_START + timedelta(days=evening)))
    return rows.astype(
        {"session": "datetime64[us]", "observed_at": "datetime64[us, UTC]", "symbol": "str", "status": "str"}
        | dict.fromkeys(["instrument_id", "source", "adjustment", "currency"], "str")
    )[list(PRICES.columns)]


def evening_rows(evening: int) -> pd.DataFrame:
    """Return the rows of one evening: new bars, the settled bars of the session before, and two revised old ones."""
    new = bars(evening, dict.fromkeys("ABC", SESSIONS[evening]), 100.0 + evening, "provisional")
    settled = bars(evening, dict.fromkeys("ABC", SESSIONS[evening - 1]), 99.0 + evening) if evening else None
    old = bars(evening, {"D": pd.Timestamp("2016-03-01"), "E": pd.Timestamp("2017-03-01")}, 10.0 + evening)
    return pd.concat([new, settled, old], ignore_index=True)


class Steps:
    """A log that survives its writer: each step is there before the next instruction."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def log_line(self, step: str) -> None:
        os.write(self._file, f"{step}\n".encode())


def append_evenings(folder: Path, log: Path, first: int, last: int, compact_every: int) -> None:
    """Append evenings and log each step before and after it; meant to be killed."""
    store, steps, write = PriceStore(folder), Steps(log), delta_table.write_deltalake

    def told(*arguments: Any, **options: Any) -> None:
        steps.log_line("write")
        write(*arguments, **options)
        steps.log_line("written")

    delta_table.write_deltalake = told
    delta_table._READER_GRACE = timedelta(0)  # so that a compaction removes files at once
    steps.log_line("ready")
    for evening in range(first, last):
        store.append(evening_rows(evening), run=f"evening {evening}")
        steps.log_line(f"appended {evening}")
        if evening % compact_every == compact_every - 1:
            steps.log_line("compact")
            store.compact(timedelta(0))
            steps.log_line("compacted")
    steps.log_line("done")


def append_beside_others(folder: Path, writer: int, evenings: int) -> None:
    """Append, evening by evening, rows of this writer, rows that all writers have, and one on which they conflict."""
    store = PriceStore(folder)
    for evening in range(evenings):
        own = {f"W{writer}": SESSIONS[evening], f"X{writer}": pd.Timestamp("2017-03-01")}
        contested = bars(evening, {"C": pd.Timestamp("2016-03-01")}, 1000.0 * (writer + 1) + evening)
        shared = bars(evening, {"S": SESSIONS[evening], "T": pd.Timestamp("2017-03-01")}, 50.0 + evening)
        mine = bars(evening, own, 100.0 + evening)
        store.append(pd.concat([mine, shared, contested], ignore_index=True), run=f"{writer} {evening}")
