"""Files that share their content on the disk."""

from pathlib import Path

import pytest

from pipeline.errors import NextdayError
from pipeline.storage.files import measure_folder, share_content, write_pages, write_text


def test_a_shared_copy_takes_no_space_and_outlives_its_original(tmp_path: Path) -> None:
    original, copy = tmp_path / "a" / "report.html", tmp_path / "b" / "report.html"
    for path in (original, copy):
        path.parent.mkdir()
        path.write_text("first")
    share_content(original, copy)
    assert original.samefile(copy)
    assert measure_folder(copy.parent) == 0  # it would free nothing
    write_text(original, "second")
    assert (original.read_text(), copy.read_text()) == ("second", "first")
    assert measure_folder(copy.parent) == 5


def test_what_cannot_be_shared_stays_a_copy(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.write_text("content")
    share_content(tmp_path / "missing", copy)
    assert copy.read_text() == "content"
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_pages_are_written_whole_and_leave_nothing_beside_them(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("old")
    write_pages(tmp_path, {"a.html": "new €", "symbols/b.html": "b"})
    assert (tmp_path / "a.html").read_text() == "new €"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.html", "b.html", "symbols"]


def test_a_page_that_cannot_be_written_is_named_and_the_others_stay(tmp_path: Path) -> None:
    (tmp_path / "b.html").mkdir()
    with pytest.raises(NextdayError, match="Cannot write") as caught:
        write_pages(tmp_path, {"a.html": "a", "b.html": "b", "c.html": "c"})
    assert caught.value.where == str(tmp_path / "b.html")
    assert (tmp_path / "a.html").read_text() == "a"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]
