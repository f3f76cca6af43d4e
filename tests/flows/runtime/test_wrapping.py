"""Lines break between words, and what is copied stays whole."""

import pytest

from flows.runtime.wrapping import wrap_words
from tests.support.terminal import shown_by

ERROR = """nextday: The prices are stale: 3 of 3 constituents have no bar on 2018-12-20, the last session that closed
  where: source files
           ACME: no bar on 2018-12-20
  fix:   run again later; `nextday prices quarantine list --config a/long/path.toml` lists the quarantine of today
"""


def test_words_stay_whole_and_continued_lines_stand_below_their_text() -> None:
    assert wrap_words(ERROR, 60).split("\n") == [
        "nextday: The prices are stale: 3 of 3 constituents have no",
        "bar on 2018-12-20, the last session that closed",
        "  where: source files",
        "           ACME: no bar on 2018-12-20",
        "  fix:   run again later;",
        "         `nextday prices quarantine list --config a/long/path.toml`",
        "         lists the quarantine of today",
        "",
    ]


def test_a_path_and_the_command_that_begins_with_one_are_not_broken() -> None:
    command = "/opt/nextday/.venv/bin/prefect server start --host 127.0.0.1 --port 4200"
    assert wrap_words(f"     start it and keep it: {command}", 40).split("\n") == [
        "     start it and keep it:", f"     {command}",
    ]  # fmt: skip


def test_a_line_does_not_end_after_its_first_word() -> None:
    home = "/home/somebody/evenings"
    assert wrap_words(f"Settings {home}/nextday.toml, workspace {home}/data", 40).split("\n") == [
        f"Settings {home}/nextday.toml,",
        f"workspace {home}/data",
    ]
    assert wrap_words(f"report: {home}/report.html", 30) == f"report: {home}/report.html"


@pytest.mark.parametrize("line", ["short", "", "  indented", "two  spaces stay"])
def test_a_line_that_fits_is_untouched(line: str) -> None:
    assert wrap_words(line, 40) == line


def test_a_terminal_of_eighty_columns_breaks_no_word() -> None:
    line = "1 setting was tried on this universe: 1 scored on test rows, 0 searched inside the training data, none."
    shown = shown_by(
        "from flows.runtime.progress import log_line, show_progress\n"
        "from flows.cli.failures import echo_wrapped\n"
        f"with show_progress(): log_line({line!r})\n"
        f"echo_wrapped({line!r})",
        columns=80,
    )
    assert max(map(len, shown)) <= 80
    assert " ".join(shown).split() == line.split() * 2
