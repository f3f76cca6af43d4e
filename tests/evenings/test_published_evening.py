"""Evenings whose batches are committed as they are sealed, and the folder that strangers check."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from flows.evening.publishing.commit import read_last_commit
from flows.operations.publishing import check_commits, publish_record
from flows.runtime.context import open_run
from pipeline.market.calendar import Calendar
from tests.evenings.test_evenings import SMALL, Place
from tests.pipeline.publishing.made_record import run_verifier
from tests.pipeline.publishing.test_repository import clean, files_of, git
from tests.support.own_process import EVENING

pytestmark = [pytest.mark.slow, pytest.mark.own_process(*EVENING)]


def test_each_evening_is_committed_and_one_that_failed_is_told_and_caught_up(
    first_evening: Path, tmp_path: Path, xnys: Calendar
) -> None:
    folder, repo, public = tmp_path / "place", tmp_path / "repo", tmp_path / "public"
    shutil.copytree(first_evening, folder)
    place = Place(folder, xnys)
    place.config.write_text(f'{SMALL}\n[publish]\ncommit = true\nrepository = "../repo"\n')
    repo.mkdir()
    git(repo, "init", "-q", "-b", "main")
    run = open_run(place.config, place.home, place.evening("2018-12-13"))
    assert "no commit was tried yet" in check_commits(run)[0].what

    # The evening before [publish] was there is in the first commit too.
    place.run("2018-12-11")
    assert sorted(name for name in files_of(repo) if name.endswith("s/000001.js")) == [
        *("sample/sealed/forecasts/000001.js", "sample/sealed/outcomes/000001.js")
    ]
    assert place.ledger.head().hash in git(repo, "log", "-1", "--format=%B")
    assert check_commits(run)[0].is_passed

    # A repository that cannot be written to costs nothing but the commit.
    (repo / ".git" / "index.lock").write_text("")
    evening = place.run("2018-12-12")
    assert evening.new_rows == 2
    assert evening.paths.html.exists()
    (told,) = check_commits(run)
    assert not told.is_passed
    assert "index.lock" in told.what
    assert "nextday forecast" in told.fix

    (repo / ".git" / "index.lock").unlink()
    place.run("2018-12-12")  # the same evening again: nothing new is sealed
    assert git(repo, "rev-list", "--count", "HEAD").strip() == "2"
    assert "sample/sealed/forecasts/000003.js" in files_of(repo)
    assert check_commits(run)[0].is_passed
    last = read_last_commit(run.workspace.last_commit("sample"))
    assert last is not None
    assert last.ledger_head == place.ledger.head().hash
    assert (
        subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=repo, env=clean(), check=False).returncode == 0
    )
    check_published(place, repo, public)


def check_published(place: Place, repo: Path, public: Path) -> None:
    """Publish the record: it verifies, is what was committed, links to what is there, and names no folder of here."""
    done = publish_record(place.config, place.home, None, public, everything=False)
    assert done.ledger_head == place.ledger.head().hash
    said = run_verifier(public)
    assert said.returncode == 0, said.stdout
    assert "6 forecasts, 4 outcomes" in said.stdout
    assert (public / "2018-12-13" / "report.html").exists()
    assert json.loads((public / "latest.json").read_text())["target_session"] == "2018-12-13"
    committed = repo / "sample" / "sealed"
    for path in committed.rglob("*.js"):
        assert path.read_bytes() == (public / "sealed" / path.relative_to(committed)).read_bytes()
    for path in public.rglob("*"):
        assert not path.is_file() or str(public.parent).encode() not in path.read_bytes(), path
    assert publish_record(place.config, place.home, None, public, everything=False).written == 0
    for page in public.rglob("*.html"):
        for link in re.findall(r'(?:href|src)="([^"#?:]+)', page.read_text()):
            assert (page.parent / link).exists(), (page, link)
