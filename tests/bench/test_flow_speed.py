"""How long a person waits: whole commands, from the shell's prompt to the next one."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.bench.market import DAYS, market
from tests.bench.stopwatch import IMPORTS, NEXTDAY, Lap, clock, median, tell

pytestmark = pytest.mark.bench

LAPS = 5
LARGE = """
[universe]
name = "large"
source = "files"
path = "prices.parquet"
[prices]
adjustment = "raw"
start = {start}
[training]
epochs = 1
stop_sessions = 40
calibrate_sessions = 40
[evaluation]
test_sessions = 60
"""


def home(folder: Path, name: str) -> tuple[str, ...]:
    return (NEXTDAY, "--home", str(folder / name))


def durations(lap: Lap) -> str:
    """Return the seconds of each task, as logged by a `--debug` run, and the rest of the time."""
    found = re.findall(r"- ([a-z ]+): ([0-9.]+) s$", lap.said, flags=re.MULTILINE)
    table = pd.DataFrame(found, columns=["task", "seconds"]).astype({"seconds": float})
    spent = table.groupby("task", sort=False)["seconds"].sum()
    in_tasks = spent.drop("make sequences").sum()  # which the forecast's own time holds
    spent["around: Python, settings, reading files, Prefect's server"] = lap.wall - in_tasks
    return spent.round(1).to_string()


def copies(folder: Path, ready: str, count: int) -> Iterator[str]:
    for number in range(count):
        shutil.copytree(folder / ready, folder / f"{ready}-{number}")
        yield f"{ready}-{number}"
        shutil.rmtree(folder / f"{ready}-{number}")


def test_the_sample(tmp_path: Path) -> None:
    first, second, imports, helps, shows = [], [], [], [], []
    for lap in range(LAPS):
        imports.append(clock(IMPORTS, tmp_path))
        helps.append(clock((NEXTDAY, "--help"), tmp_path))
        first.append(clock((*home(tmp_path, f"w{lap}"), "forecast"), tmp_path))
        second.append(clock((*home(tmp_path, f"w{lap}"), "forecast"), tmp_path))
        shows.append(clock((*home(tmp_path, f"w{lap}"), "prices", "show", "^GSPC"), tmp_path))
    print()
    tell("reference: import TensorFlow, Prefect, MLflow", imports)
    tell("nextday --help", helps, imports, most=0.034)
    tell("nextday prices show", shows, imports, most=0.2)
    tell("nextday forecast, new workspace", first, imports, most=4)
    tell("nextday forecast, again", second, imports, most=0.6)
    assert median(helps) <= 0.034 * median(imports)
    assert median(shows) <= 0.2 * median(imports)
    assert median(first) <= 4 * median(imports)
    assert median(second) <= 0.6 * median(imports)


def test_an_evening_with_a_champion(tmp_path: Path) -> None:
    imports, nightly = [], []
    clock((*home(tmp_path, "ready"), "--now", "2018-12-27T23:00Z", "forecast"), tmp_path)
    for name in copies(tmp_path, "ready", LAPS):
        imports.append(clock(IMPORTS, tmp_path))
        evening = (*home(tmp_path, name), "--now", "2018-12-28T23:00Z")
        nightly.append(clock((*evening, "forecast"), tmp_path))
    for name in copies(tmp_path, "ready", 1):
        evening = (*home(tmp_path, name), "--now", "2018-12-28T23:00Z", "--debug")
        shown = clock((*evening, "forecast"), tmp_path)
    print()
    tell("reference: import TensorFlow, Prefect, MLflow", imports)
    tell("nextday forecast, an evening with a champion", nightly, imports, most=1.2)
    print(durations(shown))
    assert median(nightly) <= 1.2 * median(imports)


def test_500_symbols_over_5000_sessions_with_a_champion(tmp_path: Path) -> None:
    sessions = DAYS.sessions[DAYS.sessions <= pd.Timestamp("2018-12-28")][-5000:]
    market(500, sessions).to_parquet(tmp_path / "prices.parquet", index=False)
    # The champion learns from the last two years only, which this bench does not time; then the whole history comes.
    for start, evening in (("2017-01-03", "2018-12-26"), ("1998-06-01", "2018-12-27")):
        (tmp_path / "large.toml").write_text(LARGE.format(start=start))
        settings = (*home(tmp_path, "large"), "--config", "large.toml")
        clock((*settings, "--now", f"{evening}T23:00Z", "forecast"), tmp_path)
    imports, nightly = [], []
    for name in copies(tmp_path, "large", LAPS):
        imports.append(clock(IMPORTS, tmp_path))
        settings = (*home(tmp_path, name), "--config", "large.toml", "--now", "2018-12-28T23:00Z")
        nightly.append(clock((*settings, "forecast"), tmp_path))
    for name in copies(tmp_path, "large", 1):
        settings = (*home(tmp_path, name), "--config", "large.toml", "--now", "2018-12-28T23:00Z")
        shown = clock((*settings, "--debug", "forecast"), tmp_path)
    assert "sealed 500 forecasts from 2018-12-28" in nightly[0].said
    above = median(nightly, "peak") - median(imports, "peak")
    print()
    tell("reference: import TensorFlow, Prefect, MLflow", imports)
    tell("nightly, 500 symbols x 5,000 sessions", nightly, imports, most=7)
    print(f"peak memory above the imports: {above:.0f} MB, promised 1000 MB")
    print(durations(shown))
    assert median(nightly) <= 7 * median(imports)
    assert above <= 1000
