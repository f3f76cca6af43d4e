"""A wheel, built from the source distribution, in an environment of its own: nextday without its checkout."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest

from pipeline.config import Config
from pipeline.config_file import load
from tests.conftest import PROJECT, network_settings
from tests.flows.cli.test_init import SYMBOLS, write_prices
from tests.support.prefect_place import prefect_home

pytestmark = pytest.mark.proof

MADE_BY_TESTS = ("NEXTDAY_", "PREFECT_", "PYTEST_", "PYTHON")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the source distribution, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(PROJECT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the wheel; the packages that it needs are those of the running one.

    So it shows that the wheel holds all of nextday, not that its requirements can be resolved.
    """
    place = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    (wheel,) = built.glob("*.whl")
    install = [place / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel]
    subprocess.run(install, check=True)
    (site,) = place.glob("lib/python3*/site-packages")
    # A line of a .pth adds a folder without reading its .pth files: the checkout stays out.
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place / "bin"


def tracked(*folders: str) -> Iterator[str]:
    done = subprocess.run(
        ["git", "ls-files", *folders], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    return (name for name in done.stdout.splitlines() if (PROJECT / name).is_file())


def test_the_wheel_holds_every_file_of_the_packages_and_what_nextday_ships(built: Path) -> None:
    (path,) = built.glob("*.whl")
    assert path.name == f"nextday-{version('nextday')}-py3-none-any.whl"
    with zipfile.ZipFile(path) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
        shipped = ("nextday.toml", "prefect.yaml", *tracked("data/universes"))
        for name in shipped:
            assert wheel.read(f"flows/shipped/{name}") == (PROJECT / name).read_bytes()
    packages = {*tracked("pipeline", "flows", "models"), "nextday.py", "nextday_command.py"}
    assert held == packages | {f"flows/shipped/{name}" for name in shipped}


def test_the_source_distribution_holds_what_is_needed_to_build_and_to_test(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    needed = {*tracked("pipeline", "flows", "models", "tests", "docs", "data")}
    assert needed <= held
    assert {"pyproject.toml", "README.md", "LICENSE", "requirements.lock", "nextday.toml"} <= held
    assert [name for name in held if name.startswith((".venv", "build/"))] == []


class Desk:
    """A folder outside of the checkout, where the installed `nextday` is typed."""

    def __init__(self, folder: Path, bin_folder: Path) -> None:
        self.folder, self._nextday = folder, bin_folder / "nextday"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(MADE_BY_TESTS)}
        home = {"HOME": str(folder.parent), "PREFECT_HOME": str(prefect_home(folder.parent / "prefect"))}
        self.environment = kept | home

    def type(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            [self._nextday, *words],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        assert str(PROJECT) not in said
        return said

    def forecasts(self, universe: str) -> list[str]:
        table = pd.read_csv(self.folder / "data" / "reports" / universe / "latest.csv")
        assert list((self.folder / "data" / "reports" / universe).glob("*/report.html"))
        return sorted(table["symbol"])


@pytest.fixture
def desk(tmp_path: Path, installed: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    folder = tmp_path / "evenings"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return Desk(folder, installed)


def test_an_empty_folder_reaches_a_forecast_of_the_sample(desk: Desk, installed: Path) -> None:
    where = "import flows, pipeline, models; print(flows.__file__, pipeline.__file__, models.__file__)"
    found = subprocess.check_output(
        [installed / "python", "-c", where], cwd=desk.folder, env=desk.environment, text=True
    )
    assert all(str(installed.parent) in place for place in found.split()), found
    refused = desk.type("forecast", code=2)
    assert "There is no configuration file" in refused
    assert "nextday init" in refused
    assert [*desk.folder.iterdir()] == []
    desk.type("init", ".")
    assert sorted(path.name for path in desk.folder.iterdir()) == [
        "nextday.toml",
        "prefect.yaml",
        "universes",
    ]
    assert load(desk.folder / "nextday.toml") == Config()
    (desk.folder / "nextday.toml").write_text(network_settings())  # a model of a moment
    desk.type("forecast")
    assert desk.forecasts("sample") == ["^GSPC", "^IXIC"]
    assert "1 batches" in desk.type("ledger", "verify")


def test_ones_own_csv_reaches_a_forecast(desk: Desk) -> None:
    write_prices()
    assert "Next: nextday forecast" in desk.type("init", "files", "prices.csv")
    settings = desk.folder / "nextday.toml"
    text = settings.read_text().replace("[training]", "[training]\nepochs = 1")
    settings.write_text(f"{text}\n[model]\nmembers = 1\nunits = 2\nlookback = 5\n")
    desk.type("forecast")
    assert desk.forecasts("prices") == sorted(SYMBOLS)
