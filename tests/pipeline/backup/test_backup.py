"""Backup of a workspace in one file, also while other runs write to it, and restore."""

import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from models.ensembles.model_files import model_version
from pipeline.backup import backup
from pipeline.backup.backup import newest, restore
from pipeline.errors import InputError, WorkspaceBusyError
from pipeline.ledger.ledger import Ledger
from pipeline.market.calendar import Calendar
from pipeline.prices.store import PriceStore
from pipeline.storage.files import hold_lock
from pipeline.tracking.mlflow_database import artifact_root, open_client
from pipeline.tracking.registry import Registry
from tests.pipeline.ledger.test_sealed_ledger import issue
from tests.pipeline.tracking.test_mlflow_database import start
from tests.support.command_line import CommandLine, contents, told
from tests.support.full_workspace import NOW, WEEK, copy, make_workspace, promote, rows, write
from tests.support.victims import unseen


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory, xnys: Calendar) -> Path:
    return make_workspace(tmp_path_factory.mktemp("once") / "w", xnys)


@pytest.fixture
def home(tmp_path: Path, made_once: Path) -> Path:
    """A full workspace, for one test alone."""
    return Path(shutil.copytree(made_once, tmp_path / "w"))


def names(archive: Path) -> list[str]:
    with tarfile.open(archive) as tar:
        return tar.getnames()


@pytest.mark.slow
def test_a_restored_workspace_has_the_contents_of_the_original(home: Path, tmp_path: Path) -> None:
    made = copy(home, tmp_path / "copies")
    assert made.path == tmp_path / "copies" / "2019-01-04T033000Z.tar"
    back = tmp_path / "elsewhere" / "w"
    held = restore(made.path, back, progress=unseen)
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


@pytest.mark.parametrize("day", [9, 10])
def test_the_link_leads_to_the_same_backtest_again(home: Path, tmp_path: Path, day: int) -> None:
    folders = {n: f"reports/sample/backtests/2018-12-{n:02}T220000Z-gru-3f2a1b9c" for n in (9, 10)}
    write(home, *(f"{folder}/report.html" for folder in folders.values()))
    (home / "reports" / "sample" / "backtest").symlink_to(Path(folders[day]).relative_to("reports/sample"))
    back = tmp_path / "back"
    restore(copy(home, tmp_path / "c.tar").path, back, progress=unseen)
    link = back / "reports" / "sample" / "backtest"
    assert link.is_symlink()
    assert link.resolve() == (back / folders[day]).resolve()
    assert [path.name for path in link.iterdir()] == ["report.html"]


def test_nightly_runs_continue_in_a_restored_workspace(home: Path, tmp_path: Path, xnys: Calendar) -> None:
    back = tmp_path / "back"
    restore(copy(home, tmp_path / "c.tar").path, back, progress=unseen)
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


def test_a_copy_is_for_its_owner_alone_and_names_no_user(home: Path, tmp_path: Path) -> None:
    made = copy(home, tmp_path / "c.tar").path
    assert made.stat().st_mode & 0o077 == 0
    with tarfile.open(made) as tar:
        assert {(member.uname, member.gname, member.uid) for member in tar.getmembers()} == {("", "", 0)}


def test_whatever_a_copy_points_at_is_in_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While files are copied a model is promoted: after its pointer was copied, or before."""
    for moment in ("copy_database", "files"):
        real, promoted = getattr(backup, f"_{moment}"), list[str]()

        def promoting(
            *places: Path,
            real: Callable[..., object] = real,
            promoted: list[str] = promoted,
            moment: str = moment,
        ) -> object:
            if home in (places[0], places[0].parent) and not promoted:
                promoted.append(promote(home, moment))
            return real(*places)

        monkeypatch.setattr(backup, f"_{moment}", promoting)
        back = tmp_path / moment
        restore(copy(home, tmp_path / f"{moment}.tar").path, back, progress=unseen)
        assert promoted
        champion = Registry(back, model_version).champion("sample")
        assert champion is not None
        assert (champion.model_version == promoted[0]) == (moment == "copy_database")
        monkeypatch.undo()


def test_prices_cannot_be_appended_while_their_files_are_copied(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = backup._add

    def look(*arguments: object) -> None:
        if any("year=" in path.parent.name for path in arguments[2]):  # type: ignore[attr-defined]
            with pytest.raises(WorkspaceBusyError), hold_lock(home / "prices" / ".sample.lock", 0):
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


def test_a_workspace_that_is_not_empty_is_never_touched(home: Path, tmp_path: Path) -> None:
    made, before = copy(home, tmp_path / "c.tar").path, contents(home)
    with pytest.raises(InputError, match="overwrites nothing") as refused:
        restore(made, home, progress=unseen)
    assert f"mv {home} {home}.old" in refused.value.fix
    assert contents(home) == before
    (tmp_path / "empty").mkdir()
    restore(made, tmp_path / "empty", progress=unseen)
    assert (tmp_path / "empty" / "ledger.sqlite").exists()


def test_a_backup_inside_of_its_workspace_or_of_none_is_refused(home: Path, tmp_path: Path) -> None:
    for wrong, target in ((home, home / "copies"), (home, home / "c.tar"), (tmp_path / "absent", tmp_path)):
        with pytest.raises(InputError):
            copy(wrong, target)
    with pytest.raises(InputError, match="no backup in this folder"):
        newest(home)


def test_two_backups_into_one_folder_exclude_each_other(home: Path, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    with hold_lock(copies / ".nextday-backup.lock", 0), pytest.raises(WorkspaceBusyError, match=str(copies)):
        copy(home, copies)
    assert newest(copies) if copy(home, copies) else None


def test_the_commands_say_what_was_copied_and_restored(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nextday = CommandLine(tmp_path, monkeypatch, capsys)
    head = Ledger(home / "ledger.sqlite").head().hash
    made = nextday("--home", "w", "backup", "copies")
    assert made.code == 0, made.err
    for words in ("prices of sample: 1 symbol to 2019-01-03, version 2", f"head {head}", "verified"):
        assert words in made.out
    back = nextday("restore", "copies", "--home", "back")
    assert back.code == 0, back.err
    assert f"head {head}" in back.out
    assert f"{tmp_path / 'back'}: restored as of" in back.out
    again = nextday("--home", "back", "restore", "copies")
    assert again.code == 2
    assert "overwrites nothing" in told(again)[0]
    assert nextday("--home", "back", "ledger", "verify", "--head", head).code == 0


@pytest.mark.slow
def test_tracked_runs_are_found_where_the_workspace_was_restored_to(home: Path, tmp_path: Path) -> None:
    tracked = start(home, "mine", tmp_path)
    assert tracked.communicate(timeout=120) == ("", "")
    made = copy(home, tmp_path / "c.tar", digest=lambda folder: folder.name)  # its model is made up
    back = tmp_path / "elsewhere" / "w"
    restore(made.path, back, progress=unseen)
    shutil.rmtree(home)
    client = open_client(back)
    (experiment,) = client.search_experiments(filter_string="name = 'nextday-mine'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.artifact_uri.startswith(artifact_root(back))
    kept = client.download_artifacts(run.info.run_id, "model", str(tmp_path))
    assert (Path(kept) / "model.json").read_text() == "{}"
