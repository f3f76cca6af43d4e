"""Files marked `own_process` run in a process of their own and are reported as if they had run in the usual one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT

pytestmark = pytest.mark.slow

CONFTEST = """
from tests.support.own_process import Nursery

def pytest_configure(config):
    config.addinivalue_line("markers", "own_process: of its own")

def pytest_collection_finish(session):
    session.config.pluginmanager.register(Nursery(session))
"""
MARKED = "import os, signal, pytest\npytestmark = pytest.mark.own_process\n"
RUNNING = "def test_{}():\n    print('ran in', os.getpid(), 'of', os.getppid())\n"


def run(folder: Path, **files: str) -> tuple[dict[str, str], str]:
    """Return the process that each test ran in, by its name, and all that pytest says."""
    for name, text in {"conftest": CONFTEST, **files}.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", "-rA", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    said = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    words = said.stdout.split("= PASSES =")[-1]
    places = {
        part.split(" ", 1)[0]: part.split("ran in ")[1].split(" ")[0]
        for part in words.split("___ test_")[1:]
        if "ran in " in part
    }
    return places, said.stdout


def test_a_marked_file_has_one_process_and_an_unmarked_one_the_usual(tmp_path: Path) -> None:
    pids, said = run(
        tmp_path,
        test_a=MARKED + RUNNING.format("one") + RUNNING.format("two"),
        test_b="import os\n" + RUNNING.format("three") + RUNNING.format("four"),
        test_c=MARKED + RUNNING.format("five"),
    )
    assert "5 passed" in said
    assert pids["one"] == pids["two"]
    assert pids["three"] == pids["four"]
    assert len({pids["one"], pids["three"], pids["five"]}) == 3


def test_a_marked_test_among_others_has_a_process_and_the_others_the_usual(tmp_path: Path) -> None:
    mark = "@pytest.mark.own_process('statistics')\n"
    pids, said = run(
        tmp_path,
        test_a="import os, sys, pytest\n"
        + RUNNING.format("one")
        + mark
        + RUNNING.format("two")
        + "    assert 'statistics' in sys.modules\n"
        + RUNNING.format("three")
        + mark
        + RUNNING.format("four"),
    )
    assert "4 passed" in said
    assert pids["one"] == pids["three"]
    assert len({pids["one"], pids["two"], pids["four"]}) == 3


def test_failures_skips_and_faults_of_fixtures_are_reported(tmp_path: Path) -> None:
    _, said = run(
        tmp_path,
        test_a=f"""{MARKED}
@pytest.fixture
def broken():
    raise OSError("no such thing")
def test_wrong(): assert 1 == 2
def test_not_here(): pytest.skip("not on this machine")
def test_faulty(broken): pass
""",
    )
    for words in ("1 failed, 1 skipped, 1 error", "assert 1 == 2", "not on this machine", "no such thing"):
        assert words in said


def test_a_process_that_is_killed_fails_its_test_and_the_next_one_runs_in_another(tmp_path: Path) -> None:
    pids, said = run(
        tmp_path,
        test_a=MARKED
        + RUNNING.format("one")
        + "def test_killed(): os.kill(os.getpid(), signal.SIGKILL)\n"
        + RUNNING.format("two"),
    )
    assert "1 failed, 2 passed" in said
    assert "its process ended: signal 9" in said
    assert pids["one"] != pids["two"]


def test_a_file_that_grows_goes_on_in_another_process_with_its_fixtures_made_again(tmp_path: Path) -> None:
    pids, said = run(
        tmp_path,
        test_a=MARKED
        + "@pytest.fixture(scope='module', autouse=True)\ndef made():\n    yield\n    print('cleared')\n"
        + RUNNING.format("one")
        + "    assert len(bytes(range(256)) * (2 << 20)) == 512 << 20\n"
        + RUNNING.format("two")
        + "    assert len(bytes(range(256)) * (4 << 20)) == 1024 << 20\n"
        + RUNNING.format("three")
        + RUNNING.format("four"),
    )
    assert "4 passed" in said
    assert pids["one"] == pids["two"] == pids["three"]  # it has grown by then: the last test in this process
    assert pids["four"] != pids["three"]
    assert said.count("cleared") == 2
