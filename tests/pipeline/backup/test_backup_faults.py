"""Backups that are damaged, forged, out of space or killed: a named file is complete and writes nothing outside."""

import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pandas as pd
import pytest

from pipeline.backup.backup import restore
from pipeline.errors import InputError, NextdayError
from pipeline.market.calendar import Calendar
from pipeline.prices.store import PriceStore
from tests.pipeline.ledger.test_sealed_ledger import forge
from tests.support.command_line import contents
from tests.support.full_workspace import copy, make_workspace, write
from tests.support.victims import (
    CONTEXT,
    append_evenings,
    copy_workspace,
    ready_to_fork,
    restore_workspace,
    unseen,
)

SEED = 20


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory, xnys: Calendar) -> Path:
    return make_workspace(tmp_path_factory.mktemp("once") / "w", xnys)


@pytest.fixture
def home(tmp_path: Path, made_once: Path) -> Path:
    """A full workspace, for one test alone."""
    return Path(shutil.copytree(made_once, tmp_path / "w"))


def test_a_full_disk_is_told_and_the_copy_of_before_stays(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = copy(home, tmp_path / "c.tar").path
    before = made.read_bytes()
    write(home, "reports/sample/2018-12-12/more.csv")
    with limited(tmp_path, monkeypatch), pytest.raises(NextdayError, match="No space left") as refused:
        copy(home, made)
    assert refused.value.exit_code == 1
    assert "disk space" in refused.value.fix
    assert made.read_bytes() == before
    assert not (tmp_path / ".nextday-backup.half").exists()
    with limited(tmp_path, monkeypatch), pytest.raises(NextdayError, match="No space left"):
        restore(made, tmp_path / "back", progress=unseen)
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
    with pytest.raises(InputError, match="not a complete backup") as refused:
        restore(changed, tmp_path / "back", progress=unseen)
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
            files[name] = files.pop(next(each for each in files if each.endswith(".keras")))
            return member.name, listed(content, files=files)
        return (name if member.name.endswith(".keras") else member.name), content

    changed = rewritten(copy(home, tmp_path / "c.tar").path, leading_out)
    with pytest.raises(InputError, match="not a complete backup"):
        restore(changed, tmp_path / "deep" / "back", progress=unseen)
    assert [*tmp_path.rglob("*out.csv")] == []
    assert not Path("/tmp/nextday-out.csv").exists()


def test_a_link_in_a_copy_is_refused(home: Path, tmp_path: Path) -> None:
    made = copy(home, tmp_path / "c.tar").path
    with tarfile.open(made) as old, tarfile.open(tmp_path / "changed.tar", "w") as new:
        for member in old.getmembers():
            if member.name.endswith(".keras"):
                member.type, member.linkname, member.size = tarfile.SYMTYPE, "/etc/passwd", 0
            new.addfile(member, old.extractfile(member) if member.isreg() else None)
    with pytest.raises(InputError, match="not a complete backup"):
        restore(tmp_path / "changed.tar", tmp_path / "back", progress=unseen)


def test_an_archive_that_declares_more_than_it_has_is_refused_before_anything_is_unpacked(
    home: Path, tmp_path: Path
) -> None:
    made, sparse = copy(home, tmp_path / "c.tar").path, tmp_path / "changed.tar"
    with tarfile.open(made) as old, tarfile.open(sparse, "w", format=tarfile.PAX_FORMAT) as new:
        for member in old.getmembers():
            if member.name.endswith(".keras"):  # a sparse file, as GNU tar writes it: a hole of a terabyte
                member.pax_headers = {
                    "GNU.sparse.major": "0",
                    "GNU.sparse.minor": "1",
                    "GNU.sparse.size": f"{1 << 40}",
                    "GNU.sparse.map": f"0,{member.size}",
                }
            new.addfile(member, old.extractfile(member))
    with pytest.raises(InputError, match="more than it has"):
        restore(sparse, tmp_path / "back", progress=unseen)


def test_a_backup_that_the_disk_cannot_take_says_how_much_it_needs(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = copy(home, tmp_path / "c.tar").path
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    with pytest.raises(NextdayError, match="the disk has 100 left"):
        restore(made, tmp_path / "back", progress=unseen)
    assert not (tmp_path / "back").exists()


def test_a_second_manifest_and_names_that_mean_one_file_are_refused(home: Path, tmp_path: Path) -> None:
    for name in ("manifest.json", "models//x", "reports/\x1b[31mred"):

        def renamed(member: tarfile.TarInfo, content: bytes, name: str = name) -> tuple[str, bytes]:
            if member.name == "manifest.json":
                files = json.loads(content)["files"]
                files[name] = files.pop(next(each for each in files if each.endswith(".keras")))
                return member.name, listed(content, files=files)
            return (name if member.name.endswith(".keras") else member.name), content

        changed = rewritten(copy(home, tmp_path / "c.tar").path, renamed)
        with pytest.raises(InputError, match="not a complete backup"):
            restore(changed, tmp_path / "back", progress=unseen)


def test_the_maker_of_a_copy_changes_nothing_on_the_terminal(home: Path, tmp_path: Path) -> None:
    def red(member: tarfile.TarInfo, content: bytes) -> tuple[str, bytes]:
        is_list = member.name == "manifest.json"
        return member.name, listed(content, made_by="\x1b[31mred") if is_list else content

    changed = rewritten(copy(home, tmp_path / "c.tar").path, red)
    assert restore(changed, tmp_path / "back", progress=unseen).made_by == r"\x1b[31mred"


@pytest.mark.parametrize("share", [0, 0.3, 0.9, 0.999])
def test_a_copy_that_was_cut_off_is_refused(home: Path, tmp_path: Path, share: float) -> None:
    made = copy(home, tmp_path / "c.tar").path
    content = made.read_bytes()
    end = content.rindex(b"manifest.json") + 900  # what follows the list is padding
    made.write_bytes(content[: int(end * share)])
    with pytest.raises(InputError, match="not a complete backup"):
        restore(made, tmp_path / "back", progress=unseen)


def test_a_copy_of_a_newer_nextday_says_what_to_do(home: Path, tmp_path: Path) -> None:
    made = copy(home, tmp_path / "c.tar").path
    newer = rewritten(made, lambda m, c: (m.name, listed(c, format=2) if m.name == "manifest.json" else c))
    with pytest.raises(NextdayError, match="format 2") as refused:
        restore(newer, tmp_path / "back", progress=unseen)
    assert "newer" in refused.value.fix


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
            with tarfile.open(target) as tar:
                assert contents(back).keys() == {*tar.getnames()} - {"manifest.json"}
            shutil.rmtree(back)
    copy(home, target)
    restore(target, back, progress=unseen)
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
            restore(made.path, back, progress=unseen)
    assert writer.exitcode == 0
    assert seen == sorted(seen)
    assert len(set(seen)) >= 3
    for place in tmp_path.glob("[1-9]*"):
        store = PriceStore(place / "prices" / "busy")
        whole = PriceStore(folder).versions()
        pd.testing.assert_frame_equal(
            store.versions(), whole[whole["seq"] <= store.seq()].reset_index(drop=True)
        )
