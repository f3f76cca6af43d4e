"""What one nightly run with a champion reads: the model's files, the ledger and the price store."""

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from flows.training import verified_champion
from models.ensembles import model_files
from pipeline.ledger import hash_chain
from pipeline.ledger.ledger import Ledger
from pipeline.market.calendar import Calendar
from pipeline.prices.delta_table import StoreFiles
from pipeline.tracking.registry import Registry
from tests.evenings.test_evenings import Place
from tests.support.own_process import EVENING

pytestmark = [pytest.mark.slow, pytest.mark.own_process(*EVENING)]


@contextmanager
def counted(patch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Count inside the block: digests of model files by name, and reads of metadata, registry, ledger and prices."""
    reads: Counter[str] = Counter()
    digest, reading, writing = model_files._digest, Ledger._reading, Ledger._writing
    rows, batches, opened = StoreFiles.rows, StoreFiles.batches, hash_chain.opened

    def count(name, call):  # type: ignore[no-untyped-def]
        def counting(*args, **kwargs):  # type: ignore[no-untyped-def]
            reads[name] += 1
            return call(*args, **kwargs)

        return counting

    def digest_file(path: Path) -> str:
        reads[f"digest of {path.name}"] += 1
        return digest(path)

    with patch.context() as during:
        during.setattr(model_files, "_digest", digest_file)
        during.setattr(Ledger, "_reading", count("ledger read", reading))
        during.setattr(Ledger, "_writing", count("ledger written", writing))
        during.setattr(hash_chain, "opened", count("ledger opened", opened))
        during.setattr(
            verified_champion, "parse_metadata", count("metadata", verified_champion.parse_metadata)
        )
        during.setattr(Registry, "_read", count("registry", Registry._read))
        during.setattr(StoreFiles, "rows", count("prices", rows))
        during.setattr(StoreFiles, "batches", count("prices", batches))
        yield reads


@pytest.fixture
def place(first_evening: Path, tmp_path: Path, xnys: Calendar) -> Place:
    """Return a place with a champion."""
    return Place(shutil.copytree(first_evening, tmp_path / "copy"), xnys)


def test_an_evening_with_a_champion_reads_each_thing_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with counted(monkeypatch) as reads:
        evening = place.run("2018-12-11")
    assert (evening.new_rows, evening.settled) == (2, 2)
    digests = {name: n for name, n in reads.items() if name.startswith("digest of")}
    assert len(digests) == len(list((place.home / "models" / "sample").glob("*/*"))) == 3
    assert set(digests.values()) == {1}
    assert reads["metadata"] == 1
    assert reads["registry"] == 1
    assert reads["ledger read"] == 2  # whether it is whole, before anything is fetched, and its rows
    assert reads["ledger written"] == 2  # the outcomes, then the forecasts: each is sealed by itself
    assert reads["ledger opened"] == 4
    # What stands before new bars are appended, what every later step needs, and a year of closes for the site.
    assert reads["prices"] == 3


def test_the_report_holds_what_was_written_in_the_same_run(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with counted(monkeypatch) as reads:
        evening = place.run("2018-12-13")
    # Two sessions were caught up and their reports written: still one verification and one reading.
    assert evening.settled == 6
    assert {n for name, n in reads.items() if name.startswith("digest of")} == {1}
    assert reads["ledger read"] == 2
    assert reads["ledger written"] == 4  # two missed sessions, the outcomes, tonight's forecasts
    pd.testing.assert_frame_equal(evening.report.record, place.record())
    assert evening.report.record["outcome"].notna().sum() == 6
    assert evening.report.ledger_head == place.ledger.head().hash
