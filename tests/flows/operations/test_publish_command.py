"""`nextday publish` and [publish]: wrong input is named before anything is written."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.evening.publishing.commit import LastCommit, commit_sealed, read_last_commit
from flows.operations.publishing import check_commits
from flows.runtime.context import open_run
from pipeline.config import Config
from pipeline.config_file import load
from pipeline.errors import ConfigError
from tests.pipeline.publishing.made_record import run_verifier
from tests.support.command_line import HERE, CommandLine, seal_one, told

pytestmark = pytest.mark.slow


@pytest.fixture
def nextday(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


def test_a_record_is_published_and_the_second_time_nothing_is_written(nextday: CommandLine) -> None:
    seal_one()
    first = nextday(*HERE, "publish", "--to", "public")
    assert first.code == 0
    assert "1 sealed batch\n" in first.out
    assert run_verifier(Path("public").resolve()).returncode == 0
    assert "0 files written" in nextday(*HERE, "publish", "--to", "public").out


@pytest.mark.parametrize(("place", "words"), [("w", "lie apart"), ("w/x", "lie apart"), (".", "lie apart")])
def test_the_workspace_is_refused(nextday: CommandLine, place: str, words: str) -> None:
    seal_one()
    said = nextday(*HERE, "publish", "--to", place)
    assert said.code == 2
    assert words in told(said)[0]


def test_without_a_ledger_or_a_folder_there_is_nothing_to_publish(nextday: CommandLine) -> None:
    assert "There is no ledger yet" in told(nextday(*HERE, "publish", "--to", "public"))[0]
    assert nextday(*HERE, "publish").code == 2
    assert not Path("public").exists()


def test_a_commit_needs_a_repository(tmp_path: Path) -> None:
    (tmp_path / "nextday.toml").write_text("[publish]\ncommit = true\n")
    with pytest.raises(ConfigError, match="needs repository"):
        load(tmp_path / "nextday.toml")


def test_a_simulation_commits_nothing() -> None:
    asked = Config.model_validate({"publish": {"commit": True, "repository": "r"}})
    run: Any = SimpleNamespace(config=asked, in_simulation=True)
    commit_sealed(run)
    run.in_simulation = False
    with pytest.raises(AttributeError, match="clock"):
        commit_sealed(run)


def test_publishing_changes_no_digest() -> None:
    assert (
        Config.model_validate({"publish": {"commit": True, "repository": "r"}}).resolved()
        == Config().resolved()
    )


def test_a_commit_that_fails_raises_nothing_and_is_told_by_the_doctor(nextday: CommandLine) -> None:
    seal_one()
    with Path("nextday.toml").open("a") as file:
        file.write('[publish]\ncommit = true\nrepository = "absent"\n')
    run = open_run(Path("nextday.toml"), Path("w"), None)
    commit_sealed(run)
    last = read_last_commit(run.workspace.last_commit(run.name))
    assert last is not None
    assert "There is no such folder" in last.problem
    (check,) = check_commits(run)
    assert (check.is_passed, "There is no such folder" in check.what) == (False, True)


def test_nothing_is_committed_or_checked_unless_it_is_asked_for(nextday: CommandLine) -> None:
    seal_one()
    run = open_run(Path("nextday.toml"), Path("w"), None)
    commit_sealed(run)
    assert check_commits(run) == []
    assert not run.workspace.last_commit(run.name).exists()


@pytest.mark.parametrize("text", ["", "[]", '{"when": 1}'])
def test_a_damaged_note_reads_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "note.json").write_text(text)
    assert read_last_commit(tmp_path / "note.json") is None
    assert LastCommit("now").problem == ""
