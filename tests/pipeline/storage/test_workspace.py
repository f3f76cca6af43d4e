"""Files that are whole or not there, whoever dies while writing them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import InputError, NextdayError, WorkspaceBusyError
from pipeline.market.calendar import Calendar
from pipeline.prices.store import PriceStore
from pipeline.storage import files
from pipeline.storage.files import write_bytes, write_text
from pipeline.storage.workspace import Workspace
from tests.conftest import NOW, prices_of, random_bars


@contextmanager
def another_process_holds(path: Path) -> Iterator[None]:
    """Let a process in other namespaces, where no process id means the same, hold what it has made."""
    code = (
        "import fcntl, os, sys\n"
        "fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)\n"
        "print(flush=True)\n"
        "sys.stdin.read()"
    )
    apart = ["unshare", "--pid", "--fork"] if can_unshare() else []
    command = [*apart, sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdout.readline()
        try:
            yield
        finally:
            holder.stdin.close()


def can_unshare() -> bool:
    tool = shutil.which("unshare")
    return tool is not None and not subprocess.run([tool, "--pid", "--fork", "true"], check=False).returncode


def test_the_temporary_file_of_a_killed_writer_is_removed_by_the_next_and_that_of_a_living_one_stays(
    tmp_path: Path,
) -> None:
    dead, living = tmp_path / ".a.csv.1", tmp_path / ".a.csv.999999999"
    others = [tmp_path / ".a.csv.lock", tmp_path / ".b.a.csv.1", living]
    for half in (dead, *others):
        half.write_text("hal")
    with another_process_holds(living):
        write_text(tmp_path / "a.csv", "whole\r\n€")
        assert (tmp_path / "a.csv").read_bytes() == b"whole\r\n\xe2\x82\xac"
        assert not dead.exists()
        assert all(other.exists() for other in others)
    write_text(tmp_path / "a.csv", "whole")
    assert not living.exists()


def test_the_scratch_of_another_container_stays_and_that_of_a_killed_run_goes(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    left, living = place.cache / ".scratch.1", place.cache / ".scratch.999999999"
    for folder in (left, living):
        (folder / "fit-1").mkdir(parents=True)
    with another_process_holds(living):
        with place.scratch() as own, Workspace(tmp_path).scratch() as second:
            assert own != second
            assert own.is_dir()
            assert not left.exists()
            assert place.remove_leftovers("sample") == []
        assert not own.exists()
        assert living.exists()
    assert place.remove_leftovers("sample") == [living]


def test_what_is_removed_before_its_maker_holds_it_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run removes what was left just between the making of a file or folder and its lock."""
    lock, removed = files._lock, []

    def remove_first(descriptor: int) -> bool:
        if len(removed) < 2:
            removed.append(next(path for path in tmp_path.rglob(".*.*") if path.name[1] in "as"))
            removed[-1].rmdir() if removed[-1].is_dir() else removed[-1].unlink()
        return lock(descriptor)

    monkeypatch.setattr(files, "_lock", remove_first)
    write_text(tmp_path / "a.csv", "whole")
    with Workspace(tmp_path).scratch() as folder:
        assert folder.is_dir()
    assert (tmp_path / "a.csv").read_text() == "whole"
    assert len(removed) == 2


def test_a_name_with_wildcards_removes_nothing_of_others(tmp_path: Path) -> None:
    other = tmp_path / ".ab.1"
    other.write_text("hal")
    write_bytes(tmp_path / "a[b]", b"whole")
    write_bytes(tmp_path / "*", b"whole")
    assert other.exists()


def test_a_file_that_cannot_be_renamed_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv" / "full").mkdir(parents=True)
    with pytest.raises(NextdayError, match="Cannot write") as refused:
        write_text(tmp_path / "a.csv", "whole")
    assert refused.value.where == str(tmp_path / "a.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_an_interrupted_write_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "a.csv", "whole")
    assert list(tmp_path.iterdir()) == []


def test_a_signal_that_comes_while_scratch_is_removed_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove, struck = os.rmdir, []

    def interrupted_once(path: str, **rest: object) -> None:
        if not struck:
            struck.append(path)
            raise KeyboardInterrupt
        remove(path, **rest)  # type: ignore[arg-type]

    workspace = Workspace(tmp_path)
    with ExitStack() as run:
        (run.enter_context(workspace.scratch()) / "x.npy").write_bytes(b"numbers")
        monkeypatch.setattr(os, "rmdir", interrupted_once)
        with pytest.raises(KeyboardInterrupt):
            run.close()
    assert struck
    assert list(workspace.cache.iterdir()) == []


def test_a_second_run_of_a_universe_waits_its_time_and_leaves_and_another_universe_works(
    tmp_path: Path,
) -> None:
    place, told = Workspace(tmp_path), list[str]()
    with place.locked("mine", timeout=0, log=told.append):
        with pytest.raises(WorkspaceBusyError, match="'mine' for 0 s"):
            Workspace(tmp_path).locked("mine", timeout=0.1, log=told.append).__enter__()
        with place.locked("yours", timeout=0, log=told.append):
            pass
    assert len(told) == 1
    with place.locked("mine", timeout=0, log=told.append):
        pass


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("job%2Fmain", "%2F"),
        ("[x]/w", "["),
        ("a]", "]"),
        ("a?b", "?"),
        ("a\\b", "\\"),
        ("a^b", "^"),
        ("a|b", "|"),
        ("a\nb", r"\n"),
        ("a\x7fb", r"\x7f"),
        ("a\udce9b", r"\udce9"),
    ],
)
def test_a_path_that_its_databases_cannot_use_is_refused_before_anything_is_made(
    tmp_path: Path, name: str, part: str
) -> None:
    with pytest.raises(InputError) as refused:
        Workspace(tmp_path / name).create()
    assert f"contains '{part}'" in refused.value.what
    assert "--home" in refused.value.fix
    assert str(refused.value).isascii()
    assert len(str(refused.value).splitlines()) == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["100%", "50% off", "a#b", "a b", "{{ x }}", "ä", "it's", 'a"b', "a:b;c", "$a&b"]
)
def test_prices_are_kept_below_any_other_path(tmp_path: Path, xnys: Calendar, name: str) -> None:
    workspace = Workspace(tmp_path / name)
    workspace.create()
    store = PriceStore(workspace.prices("u"))
    sessions = xnys.sessions_between(pd.Timestamp("2018-12-03"), pd.Timestamp("2018-12-04"))
    store.append(prices_of({"A": random_bars(sessions, 1)}, xnys, NOW), run="test")
    assert len(store.read(columns=[])) == 2
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "prices" / "u" / "_delta_log").is_dir()
