"""A ledger that lost rows is noticed by whoever reads or writes it, and goes on only in so many words."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.errors import InputError, LedgerError
from pipeline.ledger import known_head
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.recovery import begin_again, describe_loss
from tests.pipeline.ledger.test_sealed_ledger import forge, issue, outcomes

NOW = datetime(2019, 1, 4, 3, 30, tzinfo=UTC)


def lose(path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)


def empty(path: Path) -> None:
    lose(path)
    path.touch()


def cut_last_batch(path: Path) -> None:
    forge(path, "DELETE FROM forecasts WHERE batch = 3; DELETE FROM forecast_batches WHERE number = 3")


def replace_by_older_copy(path: Path) -> None:
    lose(path)
    shutil.copy(path.with_name("older"), path)


def replace_by_new_ledger(path: Path) -> None:
    known = known_head.place(path)
    kept = known.read_bytes()
    known.unlink()
    lose(path)
    for day in range(3):
        issue(Ledger(path), day, ["NEW"])
    known.write_bytes(kept)


def overwrite(path: Path) -> None:
    lose(path)
    path.write_bytes(b"no database at all" * 1000)


def header_of_a_database(path: Path) -> bytes:
    """Return what SQLite has written of a new database in WAL mode when it makes the first table."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
    return path.read_bytes()


def change_a_row(path: Path) -> None:
    forge(path, "UPDATE forecasts SET p_up = 0.99 WHERE batch = 2")


LOSSES: dict[Callable[[Path], None], tuple[str, str]] = {
    lose: ("is gone", "lost: 3 forecast batches and 1 outcome batch"),
    empty: ("is gone", "lost: 3 forecast batches and 1 outcome batch"),
    cut_last_batch: ("ends with forecast batch 2, but batch 3", "lost from the end: 1 forecast batch"),
    replace_by_older_copy: (
        "ends with forecast batch 2",
        "lost from the end: 1 forecast batch and 1 outcome batch",
    ),
    replace_by_new_ledger: (
        "forecast batch 3 is not the one",
        "the ledger is damaged and set aside, with 3 forecast batches and 1 outcome batch",
    ),
    overwrite: (
        "not a ledger",
        "the ledger is damaged and set aside, with 3 forecast batches and 1 outcome batch",
    ),
    change_a_row: (
        "forecast batch 2",
        "the ledger is damaged and set aside, with 3 forecast batches and 1 outcome batch",
    ),
}


CHAINS = ("forecast", "outcome")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Three evenings, the first one settled; `older` is a copy of the second evening."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for day in range(3):
        if day == 2:
            shutil.copy(ledger.path, tmp_path / "older")
        issue(ledger, day, ["AAPL", "MSFT"])
    ledger.settle(outcomes(0, ["AAPL", "MSFT"]), universe="sample")
    return ledger


def test_a_file_that_a_full_disk_left_without_tables_is_no_ledger_yet(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    for left in (b"", header_of_a_database(tmp_path / "other.sqlite")):
        path.write_bytes(left)
        assert not known_head.ledger_exists(path)
        assert describe_loss(path) == ""
        with pytest.raises(LedgerError, match="There is no ledger yet"):
            Ledger(path, read_only=True)
    issue(Ledger(path), 0, ["AAPL"])
    assert Ledger(path, read_only=True).verify().ok


@pytest.mark.parametrize("damage", LOSSES)
def test_a_loss_is_told_by_every_reader_and_accepted_in_so_many_words(
    ledger: Ledger, damage: Callable[[Path], None]
) -> None:
    path, (told, words) = ledger.path, LOSSES[damage]
    assert describe_loss(path) == ""
    damage(path)
    for read_only in (True, False):
        with pytest.raises(LedgerError, match=told) as caught:
            Ledger(path, read_only=read_only).record("sample")
        assert "nextday ledger begin-again" in caught.value.fix

    assert describe_loss(path) == words
    with pytest.raises(InputError, match=words) as refused:
        begin_again(path, "yes", NOW)
    assert f'begin-again --accept "{words}"' in refused.value.fix
    with pytest.raises(LedgerError):
        Ledger(path).record("sample")

    aside = begin_again(path, words, NOW)
    assert (aside is not None and aside.exists()) == ("aside" in words or damage is empty)
    issue(Ledger(path), 5, ["AAPL"])
    found = Ledger(path).verify()
    assert found.ok, found.problems
    assert found.beginnings == [f"On 2019-01-04 the ledger went on after a loss: {words}."]
    assert Ledger(path).universe_record("sample").beginnings == found.beginnings
    assert describe_loss(path) == ""
    assert found.forecasts == (5 if words.startswith("lost from the end") else 1)
    with closing(sqlite3.connect(path)) as db:
        sealed = sum(db.execute(f"SELECT count(*) FROM {name}_batches").fetchone()[0] for name in CHAINS)
    assert found.batches == sealed  # that of the loss is none of a forecast or an outcome


def test_the_accepted_loss_is_sealed(ledger: Ledger) -> None:
    lose(ledger.path)
    before = describe_loss(ledger.path)
    begin_again(ledger.path, before, NOW)
    head = ledger.head().hash
    forge(ledger.path, "UPDATE beginnings SET words = 'nothing'")
    with pytest.raises(LedgerError, match="beginning batch 1"):
        Ledger(ledger.path).head()
    assert not ledger.verify(expected_head=head).ok


def test_what_sqlite_itself_keeps_is_no_problem(ledger: Ledger) -> None:
    with closing(sqlite3.connect(ledger.path)) as db:
        db.execute("ANALYZE")  # as `PRAGMA optimize` may: it makes a table of statistics
    assert ledger.verify().problems == []


def test_a_loss_of_the_acceptance_is_told(ledger: Ledger) -> None:
    lose(ledger.path)
    begin_again(ledger.path, describe_loss(ledger.path), NOW)
    issue(ledger, 5, ["AAPL"])
    forge(ledger.path, "DELETE FROM beginnings; DELETE FROM beginning_batches")
    with pytest.raises(LedgerError, match="beginning batch 0, but batch 1"):
        ledger.head()
    assert describe_loss(ledger.path) == "lost from the end: 1 beginning batch"


def test_a_write_ahead_log_that_was_cut_is_noticed(ledger: Ledger, tmp_path: Path) -> None:
    """A batch is only in the log until a checkpoint; SQLite drops a log's damaged end without a word."""
    from pipeline.ledger import hash_chain

    with hash_chain.opened(ledger.path):  # held open: the next batches stay in the log
        issue(ledger, 3, ["AAPL"])
        issue(ledger, 4, ["AAPL"])
        crashed = tmp_path / "crashed" / "ledger.sqlite"
        crashed.parent.mkdir()
        for each in (ledger.path, known_head.place(ledger.path)):
            shutil.copy(each, crashed.parent)
        log = Path(f"{ledger.path}-wal").read_bytes()
    for cut in (len(log) - 100, len(log) // 2, 40, 0):
        copy = tmp_path / f"cut-{cut}"
        shutil.copytree(crashed.parent, copy)
        (copy / "ledger.sqlite-wal").write_bytes(log[:cut])
        with pytest.raises(LedgerError, match="but batch 5 was sealed"):
            Ledger(copy / "ledger.sqlite").head()
    for place in range(40, len(log), len(log) // 12):
        flipped = bytearray(log)
        flipped[place] ^= 8
        copy = tmp_path / f"flip-{place}"
        shutil.copytree(crashed.parent, copy)
        (copy / "ledger.sqlite-wal").write_bytes(flipped)
        with pytest.raises(LedgerError, match="but batch 5 was sealed"):
            Ledger(copy / "ledger.sqlite").head()
    shutil.copytree(crashed.parent, tmp_path / "whole")
    (tmp_path / "whole" / "ledger.sqlite-wal").write_bytes(log)
    assert Ledger(tmp_path / "whole" / "ledger.sqlite").verify().ok


def test_a_damaged_note_is_told_and_taken_anew(ledger: Ledger) -> None:
    path = known_head.place(ledger.path)
    path.write_text(path.read_text().replace('"forecasts": 3', '"forecasts": 2'))
    with pytest.raises(LedgerError, match="note of the ledger's last head") as caught:
        ledger.head()
    assert caught.value.where == str(path)
    assert not ledger.verify().ok
    assert begin_again(ledger.path, "what was sealed last is not known", NOW) is None
    assert ledger.verify().ok
    assert ledger.verify().forecasts == 6


def test_a_ledger_of_an_earlier_version_has_no_note_and_gets_one(ledger: Ledger) -> None:
    known_head.place(ledger.path).unlink()
    assert ledger.verify().ok
    assert len(ledger.record("sample")) == 6
    issue(ledger, 3, ["AAPL"])
    assert known_head.read(ledger.path) is not None
    cut = "DELETE FROM forecasts WHERE batch = 4; DELETE FROM forecast_batches WHERE number = 4"
    forge(ledger.path, cut)
    with pytest.raises(LedgerError, match="batch 4 was sealed"):
        ledger.head()


def test_a_note_may_be_older_than_the_ledger(ledger: Ledger) -> None:
    """A writer that is killed between its commit and the note."""
    older = known_head.place(ledger.path).read_bytes()
    issue(ledger, 3, ["AAPL"])
    known_head.place(ledger.path).write_bytes(older)
    assert ledger.verify().ok
    issue(ledger, 4, ["AAPL"])
    assert ledger.verify().ok


def test_the_highest_data_version_is_known(ledger: Ledger) -> None:
    assert ledger.highest_data_version("sample") == 9
    assert ledger.highest_data_version("other") == 0


@pytest.mark.parametrize(
    "extra",
    [
        "CREATE TRIGGER lower AFTER INSERT ON forecasts BEGIN DELETE FROM forecasts WHERE p_up > 0.9; END",
        "CREATE TABLE notes (text)",
    ],
)
def test_a_trigger_or_a_table_that_does_not_belong_is_named(tmp_path: Path, extra: str) -> None:
    path = tmp_path / "ledger.sqlite"
    issue(Ledger(path), 0, ["AAPL"])
    forge(path, extra)
    (problem,) = Ledger(path, read_only=True).verify().problems
    _, kind, name, *_ = extra.split()
    assert problem == f"the layout: the {kind.lower()} {name!r} does not belong to a ledger: drop it"
