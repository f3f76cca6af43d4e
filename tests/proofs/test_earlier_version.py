"""A workspace made by an earlier version goes on: it verifies, replays, and seals the rows of that version.

The earlier version computed a forecast in single precision, this one in double: p_up and its band agree to 1e-6, so the
hashes of new rows are others. So is the digest of the settings: what the same file asks of the next training changed
(columns, calibration, early stopping, a second fit). Everything else is equal.

The earlier version is the code of one commit, taken from the repository's own history, so that no binary file of it has
to be kept.
"""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.conftest import PROJECT, network_settings, skip_unless
from tests.support.prefect_place import Place as PrefectPlace

pytestmark = pytest.mark.proof

EARLIER = "90d2d739c75c4a96420fe4edd2974d8b9afa48dc"
"""The last commit in which every module lay in one folder."""
SETTINGS = network_settings("2016-01-04", members=2, epochs=2) + "[labels]\nhorizons = [1, 5]\n"
FIRST, LATER = "2018-12-10T23:00Z", "2018-12-13T23:00Z"
FORMER = SETTINGS.replace("[training]\n", "[training]\nrefit = false\nsmooth_epochs = 1\n") + (
    '[features]\nset = "default16"\n[calibration]\nmethod = "temperature"\n'
)
"""What the same settings meant to the earlier version, in the words of this one."""
PROBABILITIES, DIGEST = slice(8, 11), 15
"""Columns p_up, low and high, and the digest of the settings, in the table of forecasts."""


@dataclass(frozen=True)
class Version:
    """The code of one version, run as a command line."""

    code: Path
    place: PrefectPlace
    folder: Path
    settings: str = "nextday.toml"

    def run(self, home: str, now: str, *command: str) -> str:
        """Run a command in a workspace and return what it printed."""
        options = [
            "--config",
            str(self.folder / self.settings),
            "--home",
            str(self.folder / home),
            "--now",
            now,
        ]
        done = subprocess.run(
            [sys.executable, "-c", "from flows.cli import main; main()", *options, *command],
            env={**self.place.environment, "PYTHONPATH": str(self.code), "TF_CPP_MIN_LOG_LEVEL": "3"},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def earlier_code(folder: Path) -> Path:
    """Write the earlier version's packages into a folder."""
    packed = subprocess.run(
        ["git", "archive", EARLIER, "pipeline", "flows", "models", "nextday.toml"],
        cwd=PROJECT,
        capture_output=True,
        check=False,
    )
    skip_unless(packed.returncode == 0, f"the history of the repository, back to {EARLIER[:7]}")
    folder.mkdir()
    subprocess.run(["tar", "--extract", "--directory", str(folder)], input=packed.stdout, check=True)
    return folder


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Version, Version]]:
    """The earlier version and this one, after one evening of the earlier version in the workspace `first`."""
    folder = tmp_path_factory.mktemp("versions")
    place = PrefectPlace(folder, SETTINGS)
    earlier = Version(earlier_code(folder / "code"), place, folder)
    with place.server():
        earlier.run("first", FIRST, "forecast")
        yield earlier, Version(PROJECT, place, folder)


def copied(version: Version, name: str) -> Path:
    """Return a copy of the workspace `first`."""
    home = version.folder / name
    shutil.copytree(version.folder / "first", home)
    return home


ADDED = {
    "target": "direction",
    "median_return": None,
    "median_members": None,
    "median_basis": None,
    "void_reason": None,
}
"""The columns that the ledger's tables have gained since, and what they hold for a direction."""


def ledger_tables(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of the ledger's tables, hashes included, without the columns gained since."""
    found = {}
    with closing(sqlite3.connect(path)) as db:
        for name in ("forecasts", "forecast_batches", "outcomes", "outcome_batches"):
            columns = [column[1] for column in db.execute(f"PRAGMA table_info({name})")]
            kept = ", ".join(column for column in columns if column not in ADDED)
            for column in {*ADDED} & {*columns}:
                assert {row[0] for row in db.execute(f"SELECT {column} FROM {name}")} <= {ADDED[column]}
            found[name] = db.execute(f"SELECT {kept} FROM {name} ORDER BY 1, 2, 3").fetchall()
    return found


def test_both_versions_are_the_code_that_runs(versions: tuple[Version, Version]) -> None:
    for version, place in zip(versions, ("schema.py", "ledger/ledger.py"), strict=True):
        code = "import pipeline; print(pipeline.__path__[0])"
        found = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": str(version.code)},
            cwd=version.folder,
            capture_output=True,
            text=True,
            check=True,
        )
        assert Path(found.stdout.strip()) == version.code / "pipeline"
        assert (version.code / "pipeline" / place).exists()
    assert not (versions[0].code / "pipeline" / "ledger" / "ledger.py").exists()


def test_what_an_earlier_version_sealed_verifies_replays_and_is_reported(
    versions: tuple[Version, Version],
) -> None:
    _, now = versions
    home = copied(now, "opened")
    before = ledger_tables(home / "ledger.sqlite")
    now.run("opened", FIRST, "ledger", "verify")
    assert "4 forecasts recomputed: the same" in now.run("opened", FIRST, "replay", "2018-12-10")
    scores = next((home / "reports" / "sample").glob("*/scores.csv"))
    written = pd.read_csv(scores)
    scores.unlink()
    now.run("opened", FIRST, "report")
    again = pd.read_csv(scores)
    assert set(again["horizon"]) == {1, 5}
    pd.testing.assert_frame_equal(again[["model", "metric", "value"]], written[["model", "metric", "value"]])
    assert ledger_tables(home / "ledger.sqlite") == before


def assert_same_rows(here: dict[str, list[tuple[Any, ...]]], there: dict[str, list[tuple[Any, ...]]]) -> None:
    """Assert that two ledgers are equal but for the rounding of p_up, low and high, and for what is hashed of them."""
    for one, other in zip(here["forecasts"], there["forecasts"], strict=True):
        equal = [
            row[: PROBABILITIES.start] + row[PROBABILITIES.stop : DIGEST] + row[DIGEST + 1 :]
            for row in (one, other)
        ]
        assert equal[0] == equal[1]
        assert one[PROBABILITIES] == pytest.approx(other[PROBABILITIES], abs=1e-6, rel=0)
    batches = [[batch[:-2] for batch in tables["forecast_batches"]] for tables in (here, there)]
    assert batches[0] == batches[1]
    assert here["outcomes"] == there["outcomes"]
    assert here["outcome_batches"] == there["outcome_batches"]


def test_the_next_evening_seals_the_rows_of_the_earlier_version(
    versions: tuple[Version, Version],
) -> None:
    earlier, now = versions
    homes = [copied(version, name) for version, name in ((earlier, "there"), (now, "here"))]
    for version, home in zip(versions, homes, strict=True):
        version.run(home.name, LATER, "forecast")
    there, here = (ledger_tables(home / "ledger.sqlite") for home in homes)
    assert len(there["forecasts"]) > len(ledger_tables(now.folder / "first" / "ledger.sqlite")["forecasts"])
    assert there["outcomes"]
    assert_same_rows(here, there)
    before, after = (pd.read_csv(home / "reports" / "sample" / "latest.csv", dtype=str) for home in homes)
    assert [*after.columns[: len(before.columns)]] == [*before.columns]  # others came since
    kept = before.columns.drop("config_digest")
    pd.testing.assert_frame_equal(after[kept], before[kept])


def test_the_same_training_is_the_same_model(versions: tuple[Version, Version]) -> None:
    _, now = versions
    assert FORMER.count("refit") == 1
    (now.folder / "former.toml").write_text(FORMER)
    replace(now, settings="former.toml").run("anew", FIRST, "forecast")
    there, here = (ledger_tables(now.folder / name / "ledger.sqlite") for name in ("first", "anew"))
    before, after = (champion_folder(now.folder / name) for name in ("first", "anew"))
    networks = [
        {path.name: path.read_bytes() for path in home.glob("member-*.keras")} for home in (before, after)
    ]
    assert networks[0] == networks[1]
    # The version is another one: what describes the model used to be stored to the last digit.
    there["forecasts"] = [
        tuple(after.name if value == before.name else value for value in row) for row in there["forecasts"]
    ]
    assert_same_rows(here, there)


def champion_folder(home: Path) -> Path:
    """Return the folder of the only model."""
    (folder,) = (home / "models" / "sample").glob("*/")
    return folder
