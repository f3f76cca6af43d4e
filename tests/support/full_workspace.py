"""A workspace with a file of every kind, and backups of it."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from models.ensembles.model_files import model_version
from pipeline.backup.backup import Backup, back_up
from pipeline.config import digest as digest_settings
from pipeline.ledger.ledger import Ledger
from pipeline.market.calendar import Calendar
from pipeline.prices.store import PriceStore
from pipeline.storage.files import digest_files
from pipeline.storage.workspace import Workspace
from pipeline.tracking.registry import Registry
from pipeline.tracking.trials import TrialBook
from tests.conftest import prices_of, vendor_bars
from tests.pipeline.ledger.test_sealed_ledger import issue
from tests.pipeline.tracking.test_trials import trial
from tests.support.victims import unseen

WEEK = pd.DatetimeIndex(["2018-12-28", "2018-12-31", "2019-01-02", "2019-01-03"])
NOW = datetime(2019, 1, 4, 3, 30, tzinfo=UTC)


def copy(
    home: Path,
    target: Path,
    *,
    now: datetime = NOW,
    keep: int = 14,
    digest: Callable[[Path], str] = model_version,
) -> Backup:
    return back_up(home, target, now=now, keep=keep, progress=unseen, digest=digest)


def rows(days: Calendar, closes: list[float], symbol: str = "A") -> pd.DataFrame:
    return prices_of({symbol: vendor_bars(WEEK[: len(closes)], np.array(closes))}, days)


def write(home: Path, *names: str) -> None:
    """Make files of a workspace; each contains its own name."""
    for name in names:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(name)


def write_words(folder: Path) -> None:
    """Write files like those of an evaluation, for who reads none of them."""
    write(folder, "scores.csv", "verdict.json", "test_rows.parquet")


def promote(home: Path, content: str, evaluate: Callable[[Path], None] = write_words) -> str:
    """Register a model of these words with its evaluation, make it the champion, and return its version."""
    draft = home / "draft"
    write(draft, "model.json", "member.keras")
    (draft / "model.json").write_text(content)
    version = model_version(draft)
    folder = Workspace(home).model("sample", version)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft.rename(folder)
    evaluation = Workspace(home).evaluation("sample", version)
    evaluate(evaluation)
    registry, number = Registry(home, model_version), len(Registry(home, model_version).versions("sample"))
    tags = {"trained_through": "2018-12-10"}
    registry.add("sample", version, "run", number + 1, tags, digest_files(evaluation))
    registry.promote("sample", version, NOW + timedelta(days=number))
    return version


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
    promote(home, "a")
    TrialBook(Workspace(home).trials("sample")).add(trial(0))
    settings = {"settings": {"universe": {"name": "sample"}}}
    (home / "settings").mkdir()
    (home / "settings" / f"{digest_settings(settings)}.json").write_text(json.dumps(settings))
    write(home, "reports/sample/2018-12-11/a b.csv")
    return home
