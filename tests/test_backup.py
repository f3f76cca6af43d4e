"""A workspace in one file: whole or not there, right while evenings run, and back again."""

import io
import json
import shutil
import sqlite3
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import pytest

from pipeline import backup
from pipeline.backup import back_up, newest, restore
from pipeline.errors import InputError, NextdayError, WorkspaceBusyError
from pipeline.ledger import Ledger
from pipeline.mlflow_database import artifact_root, open_client
from pipeline.sessions import Calendar
from pipeline.store import PriceStore
from pipeline.workspace import Workspace, hold
from tests.command_line import CommandLine, contents, told
from tests.conftest import prices_of, vendor_bars
from tests.test_ledger_seal import forge, issue
from tests.test_mlflow_database import start
from tests.victims import (
    CONTEXT,
    append_evenings,
    copy_workspace,
    ready_to_fork,
    restore_workspace,
    unseen,
)

WEEK = pd.DatetimeIndex(["2018-12-28", "2018-12-31", "2019-01-02", "2019-01-03"])
NOW = datetime(2019, 1, 4, 3, 30, tzinfo=UTC)
SEED = 20


def copy(home: Path, target: Path, *, now: datetime = NOW, keep: int = 14) -> backup.Backup:
    return back_up(home, target, now=now, keep=keep, bar=unseen)


def rows(days: Calendar, closes: list[float], symbol: str = "A") -> pd.DataFrame:
    return prices_of({symbol: vendor_bars(WEEK[: len(closes)], np.array(closes))}, days)


def write(home: Path, *names: str) -> None:
    """Make files of a workspace; each holds its own name."""
    for name in names:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(name)


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory, xnys: Calendar) -> Path:
    """A workspace with a sealed forecast, prices that were revised and compacted, and a model."""
    home = tmp_path_factory.mktemp("backup") / "w"
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


@pytest.fixture
def home(tmp_path: Path, made_once: Path) -> Path:
    """The same workspace, for one test alone."""
    return Path(shutil.copytree(made_once, tmp_path / "w"))


def names(archive: Path) -> list[str]:
    with tarfile.open(archive) as tar:
        return tar.getnames()


def test_a_restored_workspace_says_what_the_copied_one_said(home: Path, tmp_path: Path) -> None:
    made = copy(home, tmp_path / "copies")
    assert made.path == tmp_path / "copies" / "2019-01-04T033000Z.tar"
    back = tmp_path / "elsewhere" / "w"
    held = restore(made.path, back, bar=unseen)
    store, again = (PriceStore(place / "prices" / "sample") for place in (home, back))
    pd.testing.assert_frame_equal(again.versions(), store.versions())
    pd.testing.assert_frame_equal(again.read(seq=1), store.read(seq=1))
    head = Ledger(home / "ledger.sqlite").head().hash
    assert Ledger(back / "ledger.sqlite", read_only=True).verify(expected_head=head).ok
    with closing(sqlite3.connect(back / "prices" / "sample.fetches.sqlite")) as db:
        assert db.execute("SELECT * FROM fetches").fetchall() == [("A",)]
    plain = [name for name in contents(home) if not name.startswith("prices/") and "sqlite" not in name]
    assert {name: contents(back)[name] for name in plain} == {name: contents(home)[name] for name in plain}
    (kept,) = held.universes
    assert (kept.name, kept.symbols, kept.last, kept.seq) == ("sample", 1, WEEK[3], 2)
    assert held.ledger is not None
    assert held.ledger.head.hash == head
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == ["w"]


def test_evenings_go_on_in_a_restored_workspace(home: Path, tmp_path: Path, xnys: Calendar) -> None:
    back = tmp_path / "back"
    restore(copy(home, tmp_path / "c.tar").path, back, bar=unseen)
    store = PriceStore(back / "prices" / "sample")
    assert store.append(rows(xnys, [10, 11.5, 12.5, 13]), run="r") == 1
    assert store.seq() == 3
    issue(Ledger(back / "ledger.sqlite"), 1, ["AAPL"])
    assert Ledger(back / "ledger.sqlite").verify().ok


def test_what_can_be_made_again_or_is_being_written_is_left_out(home: Path, tmp_path: Path) -> None:
    write(home, "cache/x", "locks/y.lock", "prefect/z", "models/sample/.new/member.keras", ".mlflow.db")
    write(home, "prices/sample/year=2018/part-of-a-killed-writer.parquet")
    held = names(copy(home, tmp_path / "c.tar").path)
    assert [name for name in held if name.startswith(("cache", "locks", "prefect"))] == []
    assert [name for name in held if "/." in name or name.startswith(".") or "killed" in name] == []
    # The revised rows lie in two files since the compaction; the four of before wait for their last readers.
    years = [name for name in held if "/year=" in name]
    assert len(years) == 2 < len([*home.glob("prices/sample/year=*/*")])


def test_a_copy_is_for_its_owner_alone_and_names_nobody(home: Path, tmp_path: Path) -> None:
    made = copy(home, tmp_path / "c.tar").path
    assert made.stat().st_mode & 0o077 == 0
    with tarfile.open(made) as tar:
        assert {(member.uname, member.gname, member.uid) for member in tar.getmembers()} == {("", "", 0)}


def test_whatever_a_copy_points_at_is_in_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While files are copied a model is promoted: after its pointer was copied, or before."""
    for moment in ("copy_database", "files"):
        real = getattr(backup, f"_{moment}")

        def promoting(*places: Path, real: Callable[..., object] = real) -> object:
            if home in (places[0], places[0].parent):
                write(home, "models/sample/b/member.keras", "models/sample/champion.json")
                (home / "models/sample/champion.json").write_text("b")
            return real(*places)

        monkeypatch.setattr(backup, f"_{moment}", promoting)
        back = tmp_path / moment
        restore(copy(home, tmp_path / f"{moment}.tar").path, back, bar=unseen)
        champion = (back / "models/sample/champion.json").read_text()
        assert champion != "b" or (back / "models/sample/b/member.keras").exists()
        monkeypatch.undo()


def test_prices_cannot_be_appended_while_their_files_are_copied(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = backup._add

    def look(*arguments: object) -> None:
        if any(path.suffix == ".parquet" for path in arguments[2]):  # type: ignore[attr-defined]
            with pytest.raises(WorkspaceBusyError), hold(home / "prices" / ".sample.lock", 0):
                pass
            looked.append(True)
        added(*arguments)  # type: ignore[arg-type]

    looked: list[bool] = []
    monkeypatch.setattr(backup, "_add", look)
    copy(home, tmp_path / "c.tar")
    assert looked == [True]


def test_the_oldest_copies_go_and_foreign_files_stay(home: Path, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    write(copies, "notes.txt", "mine.tar", "2018.tar")
    for day in range(4):
        made = copy(home, copies, now=NOW + timedelta(days=day), keep=3)
    assert [path.name for path in made.removed] == ["2019-01-04T033000Z.tar"]
    left = {path.name for path in copies.iterdir() if path.suffix != ".lock"}
    mine = {f"2019-01-0{day}T033000Z.tar" for day in (5, 6, 7)}
    assert left == {*mine, "2018.tar", "mine.tar", "notes.txt"}
    assert newest(copies).name == "2019-01-07T033000Z.tar"
    copy(home, copies / "mine.tar", keep=1)
    assert len(list(copies.glob("2019*"))) == 3


def test_a_full_disk_is_told_and_the_copy_of_before_stays(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = copy(home, tmp_path / "c.tar").path
    before = made.read_bytes()
    write(home, "reports/sample/2018-12-12/more.csv")
    with limited(tmp_path, monkeypatch), pytest.raises(NextdayError, match="No space left") as refused:
        copy(home, made)
    assert refused.value.exit_code == 1
    assert "disk space" in refused.value.way_out
    assert made.read_bytes() == before
    assert not (tmp_path / ".nextday-backup.half").exists()
    with limited(tmp_path, monkeypatch), pytest.raises(NextdayError, match="No space left"):
        restore(made, tmp_path / "back", bar=unseen)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock") == ["c.tar", "w"]


@contextmanager
def limited(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let nothing be written any more that is larger than a page."""
    real = Path.open

    def opened(self: Path, mode: str = "r", *arguments: object, **more: object) -> io.IOBase:
        file = real(self, mode, *arguments, **more)  # type: ignore[call-overload]
        if "w" not in mode and "x" not in mode:
            return file  # type: ignore[no-any-return]
        file.close()
        return real(Path("/dev/full"), "wb")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        yield


def test_a_workspace_that_is_not_empty_is_never_touched(home: Path, tmp_path: Path) -> None:
    made, before = copy(home, tmp_path / "c.tar").path, contents(home)
    with pytest.raises(InputError, match="overwrites nothing") as refused:
        restore(made, home, bar=unseen)
    assert f"mv {home} {home}.old" in refused.value.way_out
    assert contents(home) == before
    (tmp_path / "empty").mkdir()
    restore(made, tmp_path / "empty", bar=unseen)
    assert (tmp_path / "empty" / "ledger.sqlite").exists()


def rewritten(made: Path, change: Callable[[tarfile.TarInfo, bytes], tuple[str, bytes] | None]) -> Path:
    """Return a copy of an archive with each member as `change` has it, by name and content; None leaves one out."""
    target = made.with_name("changed.tar")
    with tarfile.open(made) as old, tarfile.open(target, "w") as new:
        for member in old.getmembers():
            file = old.extractfile(member)
            assert file is not None
            changed = change(member, file.read())
            if changed is not None:
                member.name, content = changed
                member.size = len(content)
                new.addfile(member, io.BytesIO(content))
    return target


def listed(content: bytes, **changes: object) -> bytes:
    return json.dumps({**json.loads(content), **changes}).encode()


CHANGES: dict[str, Callable[[tarfile.TarInfo, bytes], tuple[str, bytes] | None]] = {
    "a byte": lambda m, c: (m.name, c[:-1] + b"?" if m.name.endswith(".keras") else c),
    "a file less": lambda m, c: None if m.name.endswith(".keras") else (m.name, c),
    "no list": lambda m, c: None if m.name == "manifest.json" else (m.name, c),
    "a list that is none": lambda m, c: (m.name, b"[]" if m.name == "manifest.json" else c),
    "another name": lambda m, c: ("models/x" if m.name.endswith(".keras") else m.name, c),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_refused_and_nothing_of_it_is_left(home: Path, tmp_path: Path, change: str) -> None:
    changed = rewritten(copy(home, tmp_path / "c.tar").path, CHANGES[change])
    with pytest.raises(InputError, match="no whole backup") as refused:
        restore(changed, tmp_path / "back", bar=unseen)
    assert refused.value.exit_code == 2
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock") == [
        "c.tar",
        "changed.tar",
        "w",
    ]


@pytest.mark.parametrize("name", ["../out.csv", "/tmp/nextday-out.csv", "reports/../../out.csv"])
def test_a_copy_cannot_write_outside_of_the_workspace(home: Path, tmp_path: Path, name: str) -> None:
    def leading_out(member: tarfile.TarInfo, content: bytes) -> tuple[str, bytes]:
        if member.name == "manifest.json":
            files = json.loads(content)["files"]
            files[name] = files.pop("models/sample/a/member.keras")
            return member.name, listed(content, files=files)
        return (name if member.name.endswith(".keras") else member.name), content

    changed = rewritten(copy(home, tmp_path / "c.tar").path, leading_out)
    with pytest.raises(InputError, match="no whole backup"):
        restore(changed, tmp_path / "deep" / "back", bar=unseen)
    assert [*tmp_path.rglob("*out.csv")] == []
    assert not Path("/tmp/nextday-out.csv").exists()


def test_a_link_in_a_copy_is_refused(home: Path, tmp_path: Path) -> None:
    made = copy(home, tmp_path / "c.tar").path
    with tarfile.open(made) as old, tarfile.open(tmp_path / "changed.tar", "w") as new:
        for member in old.getmembers():
            if member.name.endswith(".keras"):
                member.type, member.linkname, member.size = tarfile.SYMTYPE, "/etc/passwd", 0
            new.addfile(member, old.extractfile(member) if member.isreg() else None)
    with pytest.raises(InputError, match="no whole backup"):
        restore(tmp_path / "changed.tar", tmp_path / "back", bar=unseen)


@pytest.mark.parametrize("share", [0, 0.3, 0.9, 0.999])
def test_a_copy_that_was_cut_off_is_refused(home: Path, tmp_path: Path, share: float) -> None:
    made = copy(home, tmp_path / "c.tar").path
    content = made.read_bytes()
    end = content.rindex(b"manifest.json") + 900  # what follows the list is padding
    made.write_bytes(content[: int(end * share)])
    with pytest.raises(InputError, match="no whole backup"):
        restore(made, tmp_path / "back", bar=unseen)


def test_a_copy_of_a_newer_nextday_says_what_to_do(home: Path, tmp_path: Path) -> None:
    made = copy(home, tmp_path / "c.tar").path
    newer = rewritten(made, lambda m, c: (m.name, listed(c, format=2) if m.name == "manifest.json" else c))
    with pytest.raises(NextdayError, match="format 2") as refused:
        restore(newer, tmp_path / "back", bar=unseen)
    assert "newer" in refused.value.way_out


def test_a_workspace_whose_record_or_prices_are_damaged_is_not_copied_over_a_good_copy(
    home: Path, tmp_path: Path
) -> None:
    made = copy(home, tmp_path / "c.tar").path
    before = made.read_bytes()
    file = next(home.glob("prices/sample/year=2019/*"))
    for damaged in home.glob("prices/sample/year=2019/*"):
        damaged.write_bytes(b"gone")
    with pytest.raises(NextdayError, match="does not read back") as refused:
        copy(home, made)
    assert refused.value.where == str(home)
    assert made.read_bytes() == before
    assert file.exists()


def test_a_forged_ledger_is_not_copied_over_a_good_copy(home: Path, tmp_path: Path) -> None:
    made = copy(home, tmp_path / "c.tar").path
    before = made.read_bytes()
    forge(home / "ledger.sqlite", "UPDATE forecasts SET p_up = 0.9")
    with pytest.raises(NextdayError, match="seal is broken"):
        copy(home, made)
    assert made.read_bytes() == before


def test_a_backup_inside_of_its_workspace_or_of_none_is_refused(home: Path, tmp_path: Path) -> None:
    for wrong, target in ((home, home / "copies"), (home, home / "c.tar"), (tmp_path / "absent", tmp_path)):
        with pytest.raises(InputError):
            copy(wrong, target)
    with pytest.raises(InputError, match="no backup in this folder"):
        newest(home)


def test_two_backups_into_one_folder_do_not_meet(home: Path, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    with hold(copies / ".nextday-backup.lock", 0), pytest.raises(WorkspaceBusyError, match=str(copies)):
        copy(home, copies)
    assert newest(copies) if copy(home, copies) else None


def test_the_commands_say_what_was_copied_and_restored(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nextday = CommandLine(tmp_path, monkeypatch, capsys)
    head = Ledger(home / "ledger.sqlite").head().hash
    made = nextday("--home", "w", "backup", "copies")
    assert made.code == 0, made.err
    for words in ("prices of sample: 1 symbol to 2019-01-03, version 2", f"head {head}", "read back whole"):
        assert words in made.out
    back = nextday("restore", "copies", "--home", "back")
    assert back.code == 0, back.err
    assert f"head {head}" in back.out
    assert f"{tmp_path / 'back'}: restored as of" in back.out
    again = nextday("--home", "back", "restore", "copies")
    assert again.code == 2
    assert "overwrites nothing" in told(again)[0]
    assert nextday("--home", "back", "ledger", "verify", "--head", head).code == 0


@pytest.fixture(scope="module")
def forks() -> Iterator[None]:
    with ready_to_fork():
        yield


def killed(seconds: float, task: Callable[..., None], *arguments: object) -> bool:
    """Start a task and kill it after some seconds; False if it had ended before."""
    process = CONTEXT.Process(target=task, args=arguments)
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode != 0


def visible(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


@pytest.mark.proof
def test_a_killed_backup_leaves_the_copy_of_before_and_a_killed_restore_no_workspace(
    home: Path, tmp_path: Path, forks: None
) -> None:
    for number in range(400):  # so that copying takes a while
        write(home, f"reports/sample/2018-12-11/{number}.csv")
    chance, struck, target = Random(SEED), {"backup": 0, "restore": 0}, tmp_path / "copies" / "c.tar"
    copy(home, target)
    while min(struck.values()) < 25:
        struck["backup"] += killed(chance.uniform(0, 0.6), copy_workspace, home, target)
        assert visible(target.parent) == {"c.tar"}
        back = tmp_path / "back"
        if killed(chance.uniform(0, 0.6), restore_workspace, target, back):
            struck["restore"] += 1
            assert visible(tmp_path) - {"back"} <= {"w", "copies", "back.half"}
        if back.exists():  # it was killed after it was done: then it is whole
            assert Ledger(back / "ledger.sqlite", read_only=True).verify().ok
            shutil.rmtree(back)
    copy(home, target)
    restore(target, back, bar=unseen)
    assert {path.name for path in target.parent.iterdir()} == {"c.tar", ".nextday-backup.lock"}
    assert visible(tmp_path) == {"w", "copies", "back"}


@pytest.mark.proof
def test_copies_made_while_prices_are_appended_and_compacted_are_whole(
    home: Path, tmp_path: Path, forks: None
) -> None:
    folder = home / "prices" / "busy"
    writer = CONTEXT.Process(target=append_evenings, args=(folder, tmp_path / "log", 0, 30, 3))
    writer.start()
    seen = []
    while writer.is_alive():
        made = copy(home, tmp_path / "c.tar")
        seen += [kept.seq for kept in made.contents.universes if kept.name == "busy"]
        back = tmp_path / f"{len(seen)}"
        if not back.exists():
            restore(made.path, back, bar=unseen)
    assert writer.exitcode == 0
    assert seen == sorted(seen)
    assert len(set(seen)) >= 3
    for place in tmp_path.glob("[1-9]*"):
        store = PriceStore(place / "prices" / "busy")
        whole = PriceStore(folder).versions()
        pd.testing.assert_frame_equal(
            store.versions(), whole[whole["seq"] <= store.seq()].reset_index(drop=True)
        )


@pytest.mark.slow
def test_tracked_runs_are_found_where_the_workspace_was_restored_to(home: Path, tmp_path: Path) -> None:
    tracked = start(home, "mine", tmp_path)
    assert tracked.communicate(timeout=120) == ("", "")
    made = copy(home, tmp_path / "c.tar")
    back = tmp_path / "elsewhere" / "w"
    restore(made.path, back, bar=unseen)
    shutil.rmtree(home)
    client = open_client(back)
    (experiment,) = client.search_experiments(filter_string="name = 'nextday-mine'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.artifact_uri.startswith(artifact_root(back))
    kept = client.download_artifacts(run.info.run_id, "model", str(tmp_path))
    assert (Path(kept) / "model.json").read_text() == "{}"
