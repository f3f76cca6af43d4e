"""Commits of the sealed batches: the repository's other files, staged or not, stay as they are."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from pipeline.errors import NextdayError
from pipeline.ledger.ledger import Ledger
from pipeline.publishing import repository
from pipeline.publishing.repository import commit_batches
from tests.pipeline.ledger.test_ledger import EVENING, forecasts
from tests.pipeline.publishing.made_record import DAY, THURSDAY, alter, edit_ledger, make_ledger, run_verifier

pytestmark = pytest.mark.slow


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@b.example", "-c", "commit.gpgSign=false")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True, env=clean()
    )
    return done.stdout


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}


@pytest.fixture(autouse=True)
def _nobody(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let git know nobody: the machine's own settings are not those of a test."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "mine.txt").write_text("one\n")
    git(folder, "add", "mine.txt")
    git(folder, "commit", "-q", "-m", "mine")
    return folder


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return make_ledger(tmp_path / "w" / "ledger.sqlite")


def seal_more(ledger: Ledger, p_up: float = 0.5) -> None:
    """Seal one evening more."""
    now = EVENING + 3 * DAY
    rows = forecasts("AAPL", as_of=THURSDAY, target_session=THURSDAY + DAY, issued_at=now, p_up=p_up)
    ledger.issue(rows, universe="sample", opens={}, newest_observed_at=now, historical=True)


def files_of(folder: Path, commit: str = "HEAD") -> list[str]:
    return git(folder, "show", "--name-only", "--format=", commit).split()


def test_one_commit_carries_the_batches_the_heads_and_the_verifier(repo: Path, ledger: Ledger) -> None:
    done = commit_batches(ledger.path, repo, "sample")
    assert done.commit == git(repo, "rev-parse", "HEAD").strip()
    assert (done.batches, done.ledger_head) == (4, ledger.head().hash)
    sealed = [f"sample/sealed/forecasts/{number:06d}.js" for number in (1, 2, 3)]
    more = ["heads.csv", "heads.js", "outcomes/000001.js"]
    assert files_of(repo) == [*sealed, *(f"sample/sealed/{name}" for name in more), "sample/verify.py"]
    message = git(repo, "log", "-1", "--format=%an <%ae>%n%B")
    assert message.startswith(
        "nextday <nextday@localhost>\nsample: outcome batch 1 and 3 more sealed\n\nledger head "
    ) or (
        message.startswith(
            "nextday <nextday@localhost>\nsample: forecast batch 3 and 3 more sealed\n\nledger head "
        )
    )
    assert ledger.head().hash in message
    assert git(repo, "status", "--porcelain") == ""
    assert run_verifier(repo / "sample").returncode == 0


def test_the_next_commit_carries_what_is_new_and_the_one_after_it_nothing(repo: Path, ledger: Ledger) -> None:
    first = commit_batches(ledger.path, repo, "sample").commit
    seal_more(ledger)
    done = commit_batches(ledger.path, repo, "sample")
    assert files_of(repo) == [
        f"sample/sealed/{name}" for name in ("forecasts/000004.js", "heads.csv", "heads.js")
    ]
    assert commit_batches(ledger.path, repo, "sample").commit == ""
    assert git(repo, "rev-list", "HEAD").split()[:2] == [done.commit, first]


def test_staged_changed_and_new_files_of_the_user_stay_as_they_are(repo: Path, ledger: Ledger) -> None:
    (repo / "staged.txt").write_text("staged")
    git(repo, "add", "staged.txt")
    (repo / "mine.txt").write_text("two\n")
    (repo / "new.txt").write_text("new")
    (repo / ".gitignore").write_text("*.js\n")
    before = git(repo, "status", "--porcelain")
    commit_batches(ledger.path, repo, "sample")
    assert git(repo, "status", "--porcelain") == before
    assert all(name.startswith("sample/") for name in files_of(repo))
    assert "sample/sealed/heads.js" in files_of(repo)  # although *.js is ignored


def test_hooks_signing_and_git_s_environment_change_nothing(
    repo: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("pre-commit", "prepare-commit-msg", "commit-msg", "post-commit"):
        hook = repo / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/hooked\nsleep 600\n")
        hook.chmod(0o755)
    for name, value in {
        "commit.gpgSign": "true",
        "gpg.program": "/bin/false",
        "core.editor": "/bin/false",
    }.items():
        git(repo, "config", name, value)
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    began = time.monotonic()
    assert commit_batches(ledger.path, repo, "sample").commit
    assert time.monotonic() - began < 60
    assert not (tmp_path / "hooked").exists()
    assert not (tmp_path / "elsewhere").exists()


def test_the_user_s_name_is_the_author_where_git_knows_it(repo: Path, ledger: Ledger) -> None:
    git(repo, "config", "user.name", "Ada")
    git(repo, "config", "user.email", "ada@example.org")
    commit_batches(ledger.path, repo, "sample")
    assert git(repo, "log", "-1", "--format=%an").strip() == "Ada"


def test_a_repository_without_a_commit_and_a_folder_inside_one_are_fine(
    tmp_path: Path, ledger: Ledger
) -> None:
    top = tmp_path / "fresh"
    (top / "records" / "deep").mkdir(parents=True)
    git(top, "init", "-q", "-b", "main")
    commit_batches(ledger.path, top / "records" / "deep", "sample")
    assert "records/deep/sample/sealed/heads.csv" in files_of(top)
    assert git(top, "status", "--porcelain") == ""


def break_by_lock(repo: Path) -> None:
    (repo / ".git" / "index.lock").write_text("")


def break_by_detaching(repo: Path) -> None:
    git(repo, "checkout", "-q", "--detach")


def break_by_merging(repo: Path) -> None:
    (repo / ".git" / "MERGE_HEAD").write_text(git(repo, "rev-parse", "HEAD"))


@pytest.mark.parametrize(
    ("breaking", "mend", "words"),
    [
        (break_by_lock, lambda repo: (repo / ".git" / "index.lock").unlink(), "index.lock"),
        (break_by_detaching, lambda repo: git(repo, "checkout", "-q", "main"), "No branch"),
        (break_by_merging, lambda repo: (repo / ".git" / "MERGE_HEAD").unlink(), "merge"),
    ],
)
def test_what_could_not_be_committed_is_committed_the_next_time(
    repo: Path, ledger: Ledger, breaking: object, mend: object, words: str
) -> None:
    breaking(repo)  # type: ignore[operator]
    with pytest.raises(NextdayError, match=words):
        commit_batches(ledger.path, repo, "sample")
    seal_more(ledger)
    mend(repo)  # type: ignore[operator]
    commit_batches(ledger.path, repo, "sample")
    assert len([name for name in files_of(repo) if "/forecasts/" in name]) == 4
    assert git(repo, "rev-list", "--count", "HEAD").strip() == "2"
    assert run_verifier(repo / "sample").returncode == 0


@pytest.mark.parametrize("kind", ["absent", "plain", "bare"])
def test_a_place_that_is_no_working_copy_is_named(tmp_path: Path, ledger: Ledger, kind: str) -> None:
    folder = tmp_path / kind
    if kind != "absent":
        folder.mkdir()
    if kind == "bare":
        git(folder, "init", "-q", "--bare")
    with pytest.raises(NextdayError) as refused:
        commit_batches(ledger.path, folder, "sample")
    assert refused.value.where == str(folder)
    assert refused.value.fix


def test_another_ledger_is_not_committed_over_the_first(repo: Path, ledger: Ledger, tmp_path: Path) -> None:
    commit_batches(ledger.path, repo, "sample")
    other = Ledger(tmp_path / "x" / "ledger.sqlite")
    seal_more(other)
    with pytest.raises(NextdayError, match="another forecast batch 1 than the ledger"):
        commit_batches(other.path, repo, "sample")
    assert git(repo, "status", "--porcelain") == ""


def test_a_broken_ledger_is_not_committed(repo: Path, ledger: Ledger) -> None:
    edit_ledger(ledger.path, "UPDATE forecasts SET p_up = 0.9 WHERE batch = 2")
    with pytest.raises(NextdayError, match="seal is broken"):
        commit_batches(ledger.path, repo, "sample")
    assert git(repo, "rev-list", "--count", "HEAD").strip() == "1"


def test_a_file_that_was_written_and_changed_before_its_commit_is_put_right(
    repo: Path, ledger: Ledger
) -> None:
    """As by a run that was killed between the two, and by whoever touched the file since."""
    break_by_detaching(repo)
    with pytest.raises(NextdayError):
        commit_batches(ledger.path, repo, "sample")
    git(repo, "checkout", "-q", "main")
    commit_batches(ledger.path, repo, "sample")
    seal_more(ledger)
    break_by_lock(repo)
    with pytest.raises(NextdayError):
        commit_batches(ledger.path, repo, "sample")
    (repo / ".git" / "index.lock").unlink()
    alter(repo / "sample" / "sealed" / "forecasts" / "000004.js", "0.5,", "0.6,")
    commit_batches(ledger.path, repo, "sample")
    assert run_verifier(repo / "sample").returncode == 0
    assert git(repo, "status", "--porcelain") == ""


def test_a_command_that_does_not_end_is_ended(
    repo: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filter of the repository's that sleeps holds git up for ever."""
    git(repo, "config", "filter.slow.clean", "sleep 600")
    (repo / ".gitattributes").write_text("*.csv filter=slow\n")
    monkeypatch.setattr(repository, "_PATIENCE", 3.0)
    began = time.monotonic()
    with pytest.raises(NextdayError, match="took more than 3 seconds"):
        commit_batches(ledger.path, repo, "sample")
    assert time.monotonic() - began < 40


def test_git_that_is_not_installed_is_named(
    repo: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NextdayError, match="git is not installed"):
        commit_batches(ledger.path, repo, "sample")
