import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import LedgerError
from pipeline.ledger import hash_chain
from pipeline.ledger.ledger import Ledger
from tests.conftest import PROJECT

ROW = {
    "universe": "sample", "symbol": "AAPL", "as_of": "2018-12-10", "target_session": "2018-12-11", "horizon": 1,
    "model_version": "gru-1", "issued_at": "2018-12-10T22:00:00.000000+00:00", "p_up": 0.52, "low": 0.49,
    "high": 0.55, "direction": "up", "baseline_p_up": 0.53, "last_close": 100.0, "data_version": 7,
    "config_digest": "c0ffee", "role": "champion", "kind": "late", "target": "direction", "opens_at": None,
    "observed_at": "2018-12-10T22:00:00.000000+00:00",
}  # fmt: skip


def append(path: Path, symbols: list[str], limit: str = "synchronous = FULL") -> None:
    with hash_chain.opened(path) as db:
        db.execute(f"PRAGMA {limit}")
        db.execute("BEGIN IMMEDIATE")
        hash_chain.append(db, hash_chain.FORECAST, [ROW | {"symbol": symbol} for symbol in symbols])
        db.execute("COMMIT")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger of one batch of 100 rows."""
    path = tmp_path / "ledger.sqlite"
    hash_chain.create(path)
    append(path, [f"A{n}" for n in range(100)])
    return path


def make_text(path: Path) -> None:
    path.write_text("symbol,p_up\n" * 100)


def make_other_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE runs (id INTEGER)")


def make_newer_ledger(path: Path) -> None:
    Ledger(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 4")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (make_text, "not a ledger"),
        (make_other_database, "not a ledger"),
        (make_newer_ledger, "layout 4"),
    ],
)
def test_a_file_that_is_no_ledger_is_named_and_left_alone(
    tmp_path: Path, make: Callable[[Path], object], said: str
) -> None:
    path = tmp_path / "ledger.sqlite"
    make(path)
    before = path.read_bytes()
    for read_only in (True, False):
        with pytest.raises(LedgerError, match=said) as caught:
            Ledger(path, read_only=read_only).head()
        assert caught.value.where == str(path)
        assert caught.value.fix
    assert path.read_bytes() == before


def test_a_place_where_no_ledger_can_be_is_named(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot be opened"):
        Ledger(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match="cannot be made"):
        Ledger(tmp_path / "file" / "ledger.sqlite")


def test_a_damaged_file_is_noticed(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        page = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'forecasts'").fetchone()[0]
        size = db.execute("PRAGMA page_size").fetchone()[0]
    content = bytearray(path.read_bytes())
    content[(page - 1) * size : page * size] = b"\xa5" * size
    path.write_bytes(content)
    with pytest.raises(LedgerError, match="damaged"):
        Ledger(path).verify()


def test_a_locked_ledger_is_read_but_not_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hash_chain, "_BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert Ledger(path, read_only=True).verify().ok
        with pytest.raises(LedgerError, match="locked by another run"):
            append(path, ["B"])


@pytest.mark.parametrize(
    ("limit", "said"), [("max_page_count = 1", "disk is full"), ("query_only = ON", "cannot be written")]
)
def test_an_error_of_sqlite_is_described_and_nothing_is_written(path: Path, limit: str, said: str) -> None:
    with pytest.raises(LedgerError, match=said):
        append(path, [f"B{n}" for n in range(500)], limit)
    assert Ledger(path).verify().forecasts == 100


def test_an_error_that_has_no_words_of_its_own_sends_to_the_verification(path: Path) -> None:
    with pytest.raises(LedgerError) as caught, hash_chain.opened(path) as db:
        db.execute("SELECT * FROM lacking")
    assert caught.value.what == "The ledger refused the operation: no such table: lacking"
    assert (caught.value.where, caught.value.fix) == (str(path), "run: nextday ledger verify")


def test_an_interrupted_batch_is_undone(path: Path) -> None:
    def interrupt() -> None:
        with hash_chain.opened(path) as db:
            db.execute("BEGIN IMMEDIATE")
            hash_chain.append(db, hash_chain.FORECAST, [ROW | {"symbol": "B"}])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert Ledger(path).verify().forecasts == 100


WRITERS = """
import os, random, signal, sys, time
from pathlib import Path
sys.path.insert(0, {project!r})
from datetime import timedelta
from tests.pipeline.ledger.test_sealed_ledger import EVENING, forecasts
from pipeline.ledger.ledger import Ledger

def write(ledger, day, symbols):
    asked, observed = forecasts(day, symbols), EVENING + timedelta(days=day)
    ledger.issue(asked, universe="sample", opens={{}}, newest_observed_at=observed, historical=True)

def start(writer, first, count):
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        ledger = Ledger(Path({path!r}))
        for day in range(first, first + count):
            write(ledger, day, [f"{{writer}}{{n}}" for n in range(20)])
            os.write(1, f"{{writer}} {{day}}\\n".encode())
        code = 0
    finally:
        os._exit(code)

write(Ledger(Path({path!r} + ".warm-up")), 0, ["A"])
"""
FOUR_MAKERS = """
def make(place, go):
    os.read(go, 1)
    Ledger(place)

for turn in range(30):
    go, ready = os.pipe()
    makers = []
    for _ in range(4):
        makers.append(os.fork())
        if not makers[-1]:
            os.close(ready)
            make(Path({path!r} + str(turn)), go)
            os._exit(0)
    os.close(ready)
    assert not any([os.waitpid(pid, 0)[1] for pid in makers])
"""
TWO_WRITERS = """
writers = [start(name, 0, 30) for name in "AB"]
sys.exit(any([os.waitpid(pid, 0)[1] for pid in writers]))
"""
KILLED_WRITERS = """
random.seed(7)
begun = time.monotonic()
write(Ledger(Path({path!r} + ".warm-up")), 1, ["A"])
pace = time.monotonic() - begun
shown = os.dup(1)
for kill in range(20):
    end, into = os.pipe()
    os.dup2(into, 1)
    pid = start("K", 1000 * kill, 1000)
    os.dup2(shown, 1)
    os.close(into)
    with os.fdopen(end) as said:
        lines = [said.readline() for _ in range(random.randint(1, 5))]  # killed after some writes, not after some time
        time.sleep(random.random() * pace)
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
        print(*lines, *said, sep="", end="", flush=True)
"""


def run_writers(path: Path, script: str) -> list[tuple[str, int]]:
    """Run a script of writers; return the batches that they said were written."""
    source = (WRITERS + script).format(project=str(PROJECT), path=str(path))
    run = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return [(writer, int(day)) for writer, day in (line.split() for line in run.stdout.splitlines())]


def written(ledger: Ledger) -> list[tuple[str, int]]:
    """Return (writer, day) of every batch that holds its 20 rows."""
    record = ledger.record("sample")
    days = (record["as_of"] - pd.Timestamp(2018, 12, 10)).dt.days
    counts = record.groupby([record["symbol"].str[0], days]).size()
    assert (counts == 20).all()
    return [(str(writer), int(day)) for writer, day in counts.index]


@pytest.mark.slow
def test_two_processes_write_at_the_same_time_without_an_error(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    acknowledged = run_writers(path, TWO_WRITERS)
    assert sorted(acknowledged) == [(writer, day) for writer in "AB" for day in range(30)]
    found = Ledger(path).verify()
    assert (found.ok, found.batches, found.forecasts) == (True, 60, 1200)


@pytest.mark.slow
def test_a_killed_writer_leaves_no_half_batch_and_loses_no_word_given(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    acknowledged = run_writers(path, KILLED_WRITERS)
    ledger = Ledger(path)
    found = ledger.verify()
    assert found.ok, found.problems
    assert len(acknowledged) > 20
    assert set(acknowledged) <= set(written(ledger))
    assert found.batches <= len(acknowledged) + 20


@pytest.mark.slow
def test_processes_that_make_the_ledger_at_the_same_time_wait_for_each_other(tmp_path: Path) -> None:
    assert run_writers(tmp_path / "ledger.sqlite", FOUR_MAKERS) == []
    assert all(Ledger(tmp_path / f"ledger.sqlite{turn}").verify().ok for turn in range(30))
