"""How long a person waits: whole commands, from the shell's prompt to the next one."""

import re
import shutil
import statistics
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
[labels]
targets = {targets}
[training]
epochs = 1
stop_sessions = 40
calibrate_sessions = 40
[evaluation]
test_sessions = 60
"""


def home(folder: Path, name: str) -> tuple[str, ...]:
    return (NEXTDAY, "--home", str(folder / name))


def task_seconds(lap: Lap) -> pd.Series:
    """Return the seconds of each task, as logged by a `--debug` run."""
    found = re.findall(r"- ([a-z ]+): ([0-9.]+) s$", lap.said, flags=re.MULTILINE)
    table = pd.DataFrame(found, columns=["task", "seconds"]).astype({"seconds": float})
    return table.groupby("task", sort=False)["seconds"].sum()


def durations(lap: Lap) -> str:
    """Return the seconds of each task of a `--debug` run, and the rest of the time."""
    spent = task_seconds(lap)
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
        nightly.append(clock((*home(tmp_path, name), "--now", "2018-12-28T23:00Z", "forecast"), tmp_path))
    for name in copies(tmp_path, "ready", 1):
        last = (*home(tmp_path, name), "--now", "2018-12-28T23:00Z", "--debug")
        shown = clock((*last, "forecast"), tmp_path)
    print()
    tell("reference: import TensorFlow, Prefect, MLflow", imports)
    tell("nextday forecast, an evening with a champion", nightly, imports, most=1.2)
    print(durations(shown))
    assert median(nightly) <= 1.2 * median(imports)


def prepare(folder: Path, name: str, targets: list[str]) -> None:
    """Make the workspace `name` of 500 symbols x 5,000 sessions, whose champion forecasts the targets."""
    # The champion learns from the last two years only, which this bench does not time; then the whole history comes.
    for start, evening in (("2017-01-03", "2018-12-26"), ("1998-06-01", "2018-12-27")):
        (folder / f"{name}.toml").write_text(LARGE.format(start=start, targets=targets))
        settings = (*home(folder, name), "--config", f"{name}.toml")
        clock((*settings, "--now", f"{evening}T23:00Z", "forecast"), folder)


def evening(folder: Path, ready: str, name: str, *options: str) -> Lap:
    """Time the evening after the last prepared one, in a copy of the workspace `ready`."""
    settings = (*home(folder, name), "--config", f"{ready}.toml", "--now", "2018-12-28T23:00Z")
    return clock((*settings, *options, "forecast"), folder)


def write_prices(folder: Path) -> None:
    sessions = DAYS.sessions[DAYS.sessions <= pd.Timestamp("2018-12-28")][-5000:]
    market(500, sessions).to_parquet(folder / "prices.parquet", index=False)


def test_500_symbols_over_5000_sessions_with_a_champion(tmp_path: Path) -> None:
    write_prices(tmp_path)
    prepare(tmp_path, "large", ["direction"])
    imports, nightly = [], []
    for name in copies(tmp_path, "large", LAPS):
        imports.append(clock(IMPORTS, tmp_path))
        nightly.append(evening(tmp_path, "large", name, "--debug"))
    assert "sealed 500 forecasts from 2018-12-28" in nightly[0].said
    with_site = [lap.wall / (lap.wall - task_seconds(lap)["write site"]) for lap in nightly]
    above = median(nightly, "peak") - median(imports, "peak")
    print()
    tell("reference: import TensorFlow, Prefect, MLflow", imports)
    tell("nightly, 500 symbols x 5,000 sessions", nightly, imports, most=7)
    print(f"peak memory above the imports: {above:.0f} MB, promised 1000 MB")
    print(
        f"with the site {statistics.median(with_site):.2f} x as long as without "
        f"({min(with_site):.2f} to {max(with_site):.2f}), promised 1.2 x"
    )
    print(durations(nightly[-1]))
    assert median(nightly) <= 7 * median(imports)
    assert above <= 1000
    assert statistics.median(with_site) <= 1.2


def test_an_evening_with_three_targets(tmp_path: Path) -> None:
    write_prices(tmp_path)
    prepare(tmp_path, "one", ["direction"])
    prepare(tmp_path, "three", ["direction", "relative", "overnight_relative"])
    one, three = [], []
    for name, other in zip(copies(tmp_path, "one", LAPS), copies(tmp_path, "three", LAPS), strict=True):
        one.append(evening(tmp_path, "one", name))
        three.append(evening(tmp_path, "three", other))
    assert "sealed 1500 forecasts from 2018-12-28" in three[0].said
    print()
    tell("reference: nightly, 500 symbols x 5,000 sessions, one target", one)
    tell("the same with three targets", three, one, most=1.35)
    assert median(three) <= 1.35 * median(one)


def test_an_evening_with_a_challenger(tmp_path: Path) -> None:
    write_prices(tmp_path)
    prepare(tmp_path, "alone", ["direction"])
    other = LARGE.format(start="2017-01-03", targets=["direction"]) + "[model]\nunits = 8\n"
    (tmp_path / "other.toml").write_text(other)
    shutil.copytree(tmp_path / "alone", tmp_path / "beside")
    shutil.copy(tmp_path / "alone.toml", tmp_path / "beside.toml")
    entering = ("--config", "other.toml", "--now", "2018-12-27T23:30Z", "challenge")
    clock((*home(tmp_path, "beside"), *entering), tmp_path)
    clock(  # the first evening compares the two test sets once; later ones find that
        (*home(tmp_path, "beside"), "--config", "beside.toml", "--now", "2018-12-27T23:40Z", "forecast"),
        tmp_path,
    )
    alone, beside = [], []
    for name, challenged in zip(
        copies(tmp_path, "alone", LAPS), copies(tmp_path, "beside", LAPS), strict=True
    ):
        alone.append(evening(tmp_path, "alone", name))
        beside.append(evening(tmp_path, "beside", challenged))
    assert "sealed 500 forecasts of the challenger other from 2018-12-28" in beside[0].said
    print()
    tell("reference: nightly, 500 symbols x 5,000 sessions, no challenger", alone)
    tell("the same with one challenger", beside, alone, most=1.15)
    assert median(beside) <= 1.15 * median(alone)
