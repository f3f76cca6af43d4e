"""A workspace with a file of every kind, and backups of it."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.backup.backup import Backup, back_up
from pipeline.ledger.ledger import Ledger
from pipeline.market.calendar import Calendar
from pipeline.prices.store import PriceStore
from pipeline.storage.workspace import Workspace
from tests.conftest import prices_of, vendor_bars
from tests.pipeline.ledger.test_sealed_ledger import issue
from tests.support.victims import unseen

WEEK = pd.DatetimeIndex(["2018-12-28", "2018-12-31", "2019-01-02", "2019-01-03"])
NOW = datetime(2019, 1, 4, 3, 30, tzinfo=UTC)


def copy(home: Path, target: Path, *, now: datetime = NOW, keep: int = 14) -> Backup:
    return back_up(home, target, now=now, keep=keep, progress=unseen)


def rows(days: Calendar, closes: list[float], symbol: str = "A") -> pd.DataFrame:
    return prices_of({symbol: vendor_bars(WEEK[: len(closes)], np.array(closes))}, days)


def write(home: Path, *names: str) -> None:
    """Make files of a workspace; each contains its own name."""
    for name in names:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(name)


def make_workspace(home: Path, xnys: Calendar) -> Path:
    """Make a workspace with a sealed forecast, prices that were revised and compacted, and a model."""
    Workspace(home).create()
    issue(Ledger(home / "ledger.sqlite"), 0, ["AAPL"])
    store = PriceStore(home / "prices" / "sample")
    store.append(rows(xnys, [10, 11, 12]), run="r")
    store.append(rows(xnys, [10, 11.5, 12, 13]), run="r")
    store.compact(timedelta(days=30))
    with closing(sqlite3.connect(home / "prices" / "sample.fetches.sqlite")) as db, db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE fetches (symbol TEXT)")
        db.execute("INSERT INTO fetches VALUES ('A')")
    write(home, "models/sample/champion.json", "models/sample/versions.json", "models/sample/a/member.keras")
    write(home, "reports/sample/2018-12-11/a b.csv", "evaluations/sample/a/scores.csv", "settings/c.json")
    return home
