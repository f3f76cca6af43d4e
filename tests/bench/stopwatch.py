"""Whole processes, timed from outside, or single calls, compared with a named reference of the same hour."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

NEXTDAY = str(Path(sys.executable).with_name("nextday"))
IMPORTS = (sys.executable, "-c", "import curl_cffi.requests, tensorflow, prefect, mlflow")
"""The reference: what Python needs to load TensorFlow, Prefect and MLflow, and do nothing with them."""


@dataclass(frozen=True)
class Lap:
    """One process or call: seconds on the wall, seconds of all cores, MB of its largest process, what it printed."""

    wall: float
    cpu: float
    peak: float = 0
    said: str = ""


def clock(command: Sequence[str], folder: Path) -> Lap:
    """Run a command that must succeed; the rest of its process tree counts too."""
    log = folder / "stopwatch.log"
    quiet = {"DO_NOT_TRACK": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "PREFECT_HOME": str(folder / "prefect")}
    begun = time.perf_counter()
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | quiet, stdout=out, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    said = log.read_text()
    assert process.returncode == 0, said[-2000:]
    return Lap(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, said)


def timed(work: Callable[..., object], *arguments: object) -> Lap:
    """Call something in this process."""
    begun, cpu = time.perf_counter(), time.process_time()
    work(*arguments)
    return Lap(time.perf_counter() - begun, time.process_time() - cpu)


def median(laps: Sequence[Lap], figure: str = "wall") -> float:
    return statistics.median(getattr(lap, figure) for lap in laps)


def tell(
    name: str,
    laps: Sequence[Lap],
    reference: Sequence[Lap] = (),
    limit: float | None = None,
    *,
    most: float | None = None,
) -> None:
    """Print the median, the spread, the ratio to the reference and the promised `limit` or the `most` of that ratio."""
    walls = [lap.wall for lap in laps]
    print(
        f"{name:<50} {median(laps):6.2f} s  ({min(walls):.2f} to {max(walls):.2f}, n {len(laps)})   "
        f"cpu {median(laps, 'cpu'):6.2f} s"
        + (f"   peak {peak:5.0f} MB" if (peak := median(laps, "peak")) else "")
        + (f"   {median(laps) / median(reference):5.2f} x the reference" if reference else "")
        + (f"   promised {limit:g} s" if limit is not None else "")
        + (f"   promised {most:g} x" if most is not None else "")
    )
