"""An evening's prices on an object store on loopback beside the same in a folder, in processor time."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest

from pipeline.prices.copying import copy_prices
from pipeline.prices.store import PriceStore
from tests.bench.market import DAYS, history, market, names
from tests.bench.test_price_speed import LAST, OVERLAP, SESSIONS, SYMBOLS, evening, keep, load, read
from tests.support.object_store import BUCKET, ObjectStore

pytestmark = pytest.mark.bench

EVENINGS = 8


def seconds(work: Callable[..., object], *given: object) -> float:
    """Return the processor time of this process: the server's own is not part of it."""
    start = time.process_time()
    work(*given)
    return time.process_time() - start


def test_an_evening_on_an_object_store_takes_at_most_half_as_long_again(
    tmp_path: Path, s3: ObjectStore
) -> None:
    shares = market(SYMBOLS, history(LAST + EVENINGS, SESSIONS + EVENINGS))
    shares.to_parquet(tmp_path / "prices.parquet")
    folder = PriceStore(tmp_path / "folder" / "bench")
    load(tmp_path / "prices.parquet", folder.folder)
    remote = PriceStore(tmp_path / "copies" / "bench", url=f"s3://{BUCKET}/speed/bench")
    copy_prices(folder, remote)
    recent = shares[shares["date"] >= DAYS.sessions[LAST - OVERLAP]]
    sessions = history(LAST, SESSIONS)
    asked = names(SYMBOLS)
    taken: dict[str, list[float]] = {"folder": [], "object store": []}
    for number in range(1, EVENINGS + 1):
        answers = evening(recent, LAST + number, OVERLAP)
        for name, store in (("folder", folder), ("object store", remote)):
            lap = seconds(keep, store, answers, LAST + number) + seconds(read, store, sessions, asked)
            taken[name].append(lap)
    plain, there = (median(taken[name][1:]) for name in ("folder", "object store"))
    ratio = there / plain
    print(
        f"\nappend and dense read of an evening, {SYMBOLS} x {SESSIONS}: {plain:.2f} s, {there:.2f} s, {ratio:.2f}"
    )
    assert folder.seq() == remote.seq()
    assert ratio <= 1.5
