"""How long it takes to copy a workspace of years, to bring it back, and to join its files."""

import functools
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models.ensembles.model_files import model_version
from pipeline.backup.backup import back_up, restore
from pipeline.ledger.ledger import Ledger
from pipeline.prices.delta_table import StoreFiles
from pipeline.prices.store import PriceStore
from tests.bench.test_ledger_speed import EVENING, evening
from tests.support.victims import bars, unseen

SYMBOLS = {f"S{number:03d}": pd.Timestamp("1999-01-01") for number in range(500)}
SESSIONS = pd.bdate_range("1999-01-04", periods=5000).astype("datetime64[us]")
EVENINGS = 250


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def market(sessions: pd.DatetimeIndex, chance: np.random.Generator) -> pd.DataFrame:
    """Return a bar of every symbol on every session, at prices in cents that mean nothing."""
    one = bars(0, SYMBOLS, 10.0)
    rows = one.loc[one.index.repeat(len(sessions))].reset_index(drop=True)
    close = np.round(chance.lognormal(3, 1, len(rows)), 2)
    prices = dict.fromkeys(["open", "high", "low", "close"], close)
    volume = chance.integers(1, 10**7, len(rows)).astype(float)
    return rows.assign(**prices, volume=volume, session=np.tile(sessions, len(one)))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """500 symbols, 5,000 sessions in one load and 250 evenings after it, forecasts of 250 evenings."""
    home, chance = tmp_path_factory.mktemp("bench") / "w", np.random.default_rng(20)
    files = StoreFiles(home / "prices" / "bench")
    files.append(market(SESSIONS[:-EVENINGS], chance).assign(seq=1), "load")
    for number in range(EVENINGS):
        evenings = SESSIONS[len(SESSIONS) - EVENINGS + number :]
        files.append(market(evenings[:1], chance).assign(seq=number + 2), "evening")
    ledger = Ledger(home / "ledger.sqlite")
    for number in range(EVENINGS):
        ledger.issue(evening(number), universe="bench", opens={}, newest_observed_at=EVENING, historical=True)
    return home


@pytest.mark.bench
def test_a_workspace_of_years_is_copied_brought_back_and_tidied_in_seconds(
    home: Path, tmp_path: Path
) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    size = sum(path.stat().st_size for path in home.rglob("*") if path.is_file()) / 1e6
    plain = seconds(functools.partial(shutil.copytree, home, tmp_path / "plain"))
    verified = seconds(lambda: Ledger(home / "ledger.sqlite").verify())
    copied = seconds(
        lambda: back_up(home, tmp_path / "c.tar", now=now, keep=1, progress=unseen, digest=model_version)
    )
    restored = seconds(lambda: restore(tmp_path / "c.tar", tmp_path / "back", progress=unseen))
    store = PriceStore(tmp_path / "back" / "prices" / "bench")
    before, read = store.count_files(), seconds(lambda: store.read(columns=["close"]))
    joined = seconds(lambda: store.compact(timedelta(days=30)))
    after, read_again = store.count_files(), seconds(lambda: store.read(columns=["close"]))
    print(f"\n{size:.0f} MB: plain copy {plain:.1f} s, ledger verified in {verified:.1f} s")
    print(f"backup {copied:.1f} s, restore {restored:.1f} s")
    print(
        f"joined {before} files into {after} in {joined:.1f} s; a read took {read:.1f} s, now {read_again:.1f} s"
    )
    assert copied < 60
    assert restored < 60
    assert joined < 30
