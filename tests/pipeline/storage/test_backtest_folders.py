"""One folder per backtest, and `backtest` leads to the newest; nothing that was there before is lost."""

import os
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from pipeline.errors import NextdayError
from pipeline.storage.backtest_folders import (
    link_newest,
    link_restored,
    name_backtest,
    place_backtest,
    remove_backtests,
)

MADE_AT = datetime(2026, 11, 30, 21, 30, 5, tzinfo=UTC)


def write(home: Path, day: int, text: str) -> Path:
    folder = place_backtest(home, name_backtest(MADE_AT.replace(day=day), "gru", "3f2a1b9c77"))
    folder.mkdir(parents=True)
    (folder / "report.html").write_text(text)
    return folder


def page(home: Path) -> str:
    return (home / "backtest" / "report.html").read_text()


def test_the_name_says_when_it_was_made_and_of_what() -> None:
    assert name_backtest(MADE_AT, "gru", "3f2a1b9c77") == "2026-11-30T213005Z-gru-3f2a1b9c"


def test_the_link_follows_the_newest_and_survives_a_move(tmp_path: Path) -> None:
    home = tmp_path / "reports" / "u"
    for day in (1, 2):
        link_newest(home, write(home, day, f"day {day}"))
        assert page(home) == f"day {day}"
    assert str((home / "backtest").readlink()) == "backtests/2026-11-02T213005Z-gru-3f2a1b9c"
    assert sorted(path.name for path in home.iterdir()) == ["backtest", "backtests"]
    (tmp_path / "reports").rename(tmp_path / "moved")
    assert page(tmp_path / "moved" / "u") == "day 2"


@pytest.mark.parametrize(
    ("forecasts", "name"),
    [
        ("symbol,issued_at\nA,2024-03-01T22:00:07Z\n", "2024-03-01T220007Z-earlier"),
        ("symbol\nA\n", "2020-01-02T030405Z-earlier"),
        ("", "2020-01-02T030405Z-earlier"),
    ],
)
def test_the_folder_of_an_earlier_version_is_kept_among_the_others(
    tmp_path: Path, forecasts: str, name: str
) -> None:
    former = tmp_path / "backtest"
    former.mkdir()
    (former / "report.html").write_text("earlier")
    (former / "forecasts.csv").write_text(forecasts)
    written = datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()
    os.utime(former, (written, written))
    folder = write(tmp_path, 3, "new")
    link_newest(tmp_path, folder)
    assert page(tmp_path) == "new"
    assert (tmp_path / "backtests" / name / "report.html").read_text() == "earlier"
    assert (tmp_path / "backtests" / name / "forecasts.csv").read_text() == forecasts


def test_without_links_there_is_a_copy_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    for day in (1, 2):
        link_newest(tmp_path, write(tmp_path, day, f"day {day}"))
        assert page(tmp_path) == f"day {day}"
        assert not (tmp_path / "backtest" / "groups.csv").exists()
        (tmp_path / "backtest" / "groups.csv").touch()  # the next backtest has no such file
    said = (tmp_path / "backtest" / "copy_of.txt").read_text()
    assert said == "2026-11-02T213005Z-gru-3f2a1b9c\n"
    assert len([*(tmp_path / "backtests").iterdir()]) == 2
    monkeypatch.undo()
    link_newest(tmp_path, write(tmp_path, 3, "day 3"))
    assert (tmp_path / "backtest").is_symlink()
    assert page(tmp_path) == "day 3"
    assert len([*(tmp_path / "backtests").iterdir()]) == 3


def test_a_link_that_was_half_made_is_made_again(tmp_path: Path) -> None:
    (tmp_path / ".backtest.link").symlink_to("nowhere")
    link_newest(tmp_path, write(tmp_path, 1, "new"))
    assert page(tmp_path) == "new"
    assert not (tmp_path / ".backtest.link").is_symlink()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path, 1, "new")
    (tmp_path / "backtest").mkdir()
    (tmp_path / "backtest" / "report.html").write_text("earlier")
    (tmp_path / "backtests" / "2020-01-02T030405Z-earlier").write_text("a file")
    written = datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()
    os.utime(tmp_path / "backtest", (written, written))
    with pytest.raises(NextdayError, match="link to the newest backtest") as error:
        link_newest(tmp_path, folder)
    assert str(folder) in error.value.fix
    assert page(tmp_path) == "earlier"


def test_old_ones_go_and_the_newest_stays_whatever_its_age(tmp_path: Path) -> None:
    folders = [write(tmp_path, day, "0" * 1000) for day in (1, 2, 3)]
    link_newest(tmp_path, folders[1])
    other = tmp_path / "backtests" / "mine"
    other.mkdir()
    assert remove_backtests(tmp_path, date(2026, 11, 1)) == (0, 0)
    assert remove_backtests(tmp_path, date(2026, 12, 24)) == (1, 1000)
    assert sorted((tmp_path / "backtests").iterdir()) == [*folders[1:], other]
    assert remove_backtests(tmp_path / "none", date(2026, 12, 24)) == (0, 0)


def test_a_restored_workspace_has_its_links_again(tmp_path: Path) -> None:
    home = tmp_path / "reports" / "u"
    for day in (1, 2):
        write(home, day, f"day {day}")
    (tmp_path / "reports" / "v" / "backtest").mkdir(parents=True)
    link_restored(tmp_path)
    assert page(home) == "day 2"
    assert not (tmp_path / "reports" / "v" / "backtest").is_symlink()


def test_of_a_backup_that_names_none_the_backtest_made_last_is_linked(tmp_path: Path) -> None:
    home = tmp_path / "reports" / "u"
    folders = [write(home, day, f"day {day}") for day in (1, 2, 3)]
    (folders[0] / "forecasts.csv").write_text("symbol,issued_at\nA,2026-11-29T22:00:07Z\n")
    (folders[2] / "forecasts.csv").write_text("symbol,issued_at\nA,2026-10-03T22:00:07Z\n")
    folders[0].rename(home / "backtests" / "2026-10-09T220007Z-renamed")
    link_restored(tmp_path)
    assert page(home) == "day 1"


@pytest.mark.parametrize(("named", "shown"), [("2026-11-01T213005Z-gru-3f2a1b9c", 1), ("gone", 2)])
def test_the_folder_that_a_backup_names_is_linked_while_it_is_there(
    tmp_path: Path, named: str, shown: int
) -> None:
    home = tmp_path / "reports" / "u"
    for day in (1, 2):
        write(home, day, f"day {day}")
    (home / "backtest").mkdir()
    (home / "backtest" / "copy_of.txt").write_text(f"{named}\n")
    link_restored(tmp_path)
    assert (home / "backtest").is_symlink()
    assert page(home) == f"day {shown}"


def test_the_only_backtest_of_an_earlier_version_stays_in_its_place(tmp_path: Path) -> None:
    home = tmp_path / "reports" / "u"
    write(home, 1, "new")
    (home / "backtest").mkdir()
    (home / "backtest" / "report.html").write_text("earlier")
    link_restored(tmp_path)
    assert page(home) == "earlier"
