"""Five thousand symbols on one machine: an evening's time, its memory, its page and its append."""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pandas as pd
import pytest

from pipeline.prices.store import PriceStore
from pipeline.storage.workspace import Workspace
from tests.bench.market import DAYS, market
from tests.bench.stopwatch import NEXTDAY, clock, tell, timed
from tests.bench.test_flow_speed import durations

pytestmark = pytest.mark.bench

SYMBOLS, SESSIONS, MEGABYTE = 5000, 2500, 2**20
SETTINGS = """
[universe]
name = "large"
source = "files"
path = "prices.parquet"
[prices]
adjustment = "raw"
start = {start}
[model]
members = 2
[training]
mode = "sequence"
batch_size = 4096
epochs = 1
refit = false
chunk = 60
stop_sessions = 40
calibrate_sessions = 40
[evaluation]
test_sessions = 60
"""


def evening(folder: Path, settings: str, day: str) -> tuple[str, ...]:
    now = ("--now", f"{day}T23:00Z", "--debug")
    return (NEXTDAY, "--home", str(folder / "home"), "--config", settings, *now, "forecast")


def share_of_memory(pid: int) -> float:
    """Return the megabytes of a process, pages that several share divided among them; 0 where it has ended."""
    with suppress(OSError, TypeError):
        rolled = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return int(re.search(r"^Pss:\s+(\d+) kB", rolled, flags=re.MULTILINE)[1]) / 1024  # type: ignore[index]
    return 0.0


def list_descendants(root: int) -> Iterator[int]:
    parents = dict[int, int]()
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = [root]
    for pid in found:  # which grows meanwhile
        children = [child for child, parent in parents.items() if parent == pid]
        found += children
        yield from children


@contextmanager
def watched_memory() -> Iterator[list[float]]:
    """Sample the memory of all processes that the block starts, together, every second; the list gets megabytes."""
    samples, is_over = list[float](), threading.Event()

    def watch() -> None:
        while not is_over.wait(1):
            samples.append(sum(map(share_of_memory, list_descendants(os.getpid()))))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield samples
    finally:
        is_over.set()
        thread.join()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace whose champion has forecast twice: after its training, and after the whole history came."""
    folder = tmp_path_factory.mktemp("large")
    sessions = DAYS.sessions[DAYS.sessions <= pd.Timestamp("2018-12-31")][-SESSIONS:]
    market(SYMBOLS, sessions).to_parquet(folder / "prices.parquet", index=False)
    # The champion learns from the last year only, which this bench does not time.
    for name, start, day in (("part", "2017-08-15", "2018-12-26"), ("whole", "1997-01-03", "2018-12-27")):
        (folder / f"{name}.toml").write_text(SETTINGS.format(start=start))
        lap = clock(evening(folder, f"{name}.toml", day), folder)
        print(f"\nto prepare: {name} history, {lap.wall:.0f} s, peak {lap.peak:.0f} MB")
    return folder


def test_an_evening_of_five_thousand_symbols(folder: Path) -> None:
    with watched_memory() as samples:
        lap = clock(evening(folder, "whole.toml", "2018-12-28"), folder)
    assert f"sealed {SYMBOLS} forecasts from 2018-12-28" in lap.said
    page = next((folder / "home" / "reports" / "large").glob("2018-12-31/report.html"))
    print()
    tell(f"nightly, {SYMBOLS} symbols x {SESSIONS} sessions", [lap], limit=300)
    print(
        f"largest process {lap.peak:.0f} MB, all processes together {max(samples):.0f} MB, promised 4096 MB"
    )
    print(f"report.html {page.stat().st_size / MEGABYTE:.2f} MB, promised 2 MB")
    print(durations(lap))
    assert lap.wall <= 300
    assert lap.peak <= 4096
    assert max(samples) <= 4096
    assert page.stat().st_size <= 2 * MEGABYTE


def test_an_evenings_append(folder: Path) -> None:
    store = PriceStore(Workspace(folder / "home").prices("large"))
    newest = store.read(since=store.newest_session()).drop(columns="seq")
    assert len(newest) == SYMBOLS
    revised = newest.assign(volume=newest["volume"] * 2)
    lap = timed(lambda: store.append(revised, run="bench"))
    print()
    tell(f"an append of {SYMBOLS} bars", [lap], limit=10)
    assert lap.wall <= 10
