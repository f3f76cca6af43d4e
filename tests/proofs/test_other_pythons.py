"""README's two commands on every Python that is promised: in a fresh clone, with an environment of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import PROJECT, network_settings, skip_unless

pytestmark = pytest.mark.proof

SMOKE = "tests/pipeline/market tests/pipeline/ledger tests/models/networks/test_recurrent.py"
"""Calendars (NumPy, pandas), SQLite and Keras: where versions of Python and of packages differ most."""


def find_python(version: str) -> str | None:
    """Return an interpreter of this version that works: on the PATH, or among pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for found in (shutil.which(f"python{version}"), *map(str, pyenv.glob(f"{version}.*/bin/python3"))):
        if found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
            return found
    return None


def settings_of(folder: Path, home: Path) -> dict[str, str]:
    """Write little settings and return the environment that uses them, as a user's would be."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    for name in ("PYTHONPATH", "XLA_FLAGS", "TF_XLA_FLAGS"):
        environment.pop(name, None)
    # The versions differ in what is installed and imported, not in how long a network trains.
    (folder / "nextday.toml").write_text(network_settings())
    return environment | {"NEXTDAY_CONFIG": str(folder / "nextday.toml"), "NEXTDAY_HOME": str(home)}


@pytest.fixture(scope="module")
def made_here(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], list[float]]:
    """The model version and the forecasts that this Python makes of the same settings."""
    folder = tmp_path_factory.mktemp("here")
    command = [sys.executable, "-m", "nextday", "forecast"]
    subprocess.run(
        command, cwd=PROJECT, env=settings_of(folder, folder / "data"), check=True, capture_output=True
    )
    return read_latest(folder / "data")


def read_latest(home: Path) -> tuple[set[str], list[float]]:
    latest = pd.read_csv(home / "reports" / "sample" / "latest.csv")
    assert latest["target_session"].tolist() == ["2019-01-02"] * 2
    return {*latest["model_version"]}, latest["p_up"].tolist()


@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_the_readmes_two_commands_work_and_make_the_same_model(
    version: str, tmp_path: Path, made_here: tuple[set[str], list[float]]
) -> None:
    python = find_python(version)
    skip_unless(python is not None, f"Python {version}", in_ci=False)
    clone = tmp_path / "nextday"
    subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(clone)], check=True)
    environment = settings_of(tmp_path, clone / "data")
    environment |= {"HOME": str(tmp_path), "PYTEST_ADDOPTS": f"{SMOKE} -q", "PYTHONDONTWRITEBYTECODE": "1"}
    for target in ("test", "forecast"):  # in this order pip runs once
        done = subprocess.run(
            ["make", target, f"PYTHON={python}"],
            cwd=clone,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert f"Python {version}" in subprocess.check_output(
        [clone / ".venv/bin/python", "--version"], text=True
    )
    compiled = (clone / ".venv").glob("lib/*/site-packages/tensorflow/__pycache__/__init__.*.pyc")
    assert [*compiled], "every command compiles all that it imports"
    assert read_latest(clone / "data") == made_here
    shutil.rmtree(clone)
