"""What several files of evenings begin with."""

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from pipeline.market.calendar import Calendar


@pytest.fixture(scope="session")
def first_evening(tmp_path_factory: pytest.TempPathFactory, xnys: Calendar) -> Path:
    """Return the folder of a place after its first evening, 2018-12-10, in which a champion was trained.

    It is made once in a run of the tests, by whichever of its processes needs it first: copy it to go on with it.
    """
    from tests.evenings.test_evenings import Place

    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, made = shared / "first-evening", shared / "first-evening.made"
    with FileLock(shared / "first-evening.lock"):
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            Place(folder, xnys).run("2018-12-10")
            made.touch()
    return folder
