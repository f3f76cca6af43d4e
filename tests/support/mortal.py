"""Runs in processes of their own that may die at any moment, and what they leave in the workspace.

The imports of a run cost seconds. A server of processes (multiprocessing's forkserver) has done them once, and every
run is a fork of it: a process of its own, ended by a signal to its id like any other.
"""

import json
import multiprocessing
import os
import re
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.ledger.ledger import Ledger
from pipeline.prices.store import PriceStore
from pipeline.tracking import mlflow_database

CONTEXT = multiprocessing.get_context("forkserver")
PRELOADED = [
    "curl_cffi.requests",
    "flows.cli.app",
    "flows.nightly",
    "flows.retrain",
    "flows.cli.output",
    "models.ensembles.pooled",
    "models.baselines",
    "pipeline.report.evening_page",
    "mlflow",
    "alembic.script",
]
_OF_ITS_OWN_RUN = re.compile(
    r"<li>\d+ of \d+ rows stood in the ledger before this run.*?</li>\n"
    r'|,\n *"\d+ of \d+ rows stood in the ledger before this run[^\n]*"'
)


@contextmanager
def server_of_runs(environment: dict[str, str]) -> Iterator[None]:
    """Let every run of the block see this environment, and what a run sets before it imports MLflow."""
    CONTEXT.set_forkserver_preload(PRELOADED)
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environment | mlflow_database._ENVIRONMENT)
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    try:
        yield
    finally:
        _stop_server_of_runs()


def _stop_server_of_runs() -> None:
    for run in multiprocessing.active_children():  # of a test that has failed
        if isinstance(run, CONTEXT.Process):
            run.kill()
            run.join()
    # It has no public end, and would live as long as pytest.
    forkserver._forkserver._stop()  # type: ignore[attr-defined]


def _run(arguments: list[str], log: str) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for descriptor, name in ((1, f"{log}.out"), (2, log)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    sys.argv = ["nextday", *arguments]
    from flows.cli import app

    app.main()


class Mortal:
    """A `nextday` command that has been started.

    Args:
        folder: Where its log goes; nextday.toml lies in it.
        home: The workspace.
        now: The run's clock.
        command: What follows the options.
    """

    def __init__(self, folder: Path, home: Path, now: str, *command: str) -> None:
        self.log = folder / f"{home.name}-{time.monotonic_ns()}.log"
        options = ["--config", str(folder / "nextday.toml"), "--home", str(home), "--now", now]
        self.process = CONTEXT.Process(target=_run, args=([*options, *command], str(self.log)))
        self.started_at = time.monotonic()
        self.process.start()

    def said(self) -> list[str]:
        """Return its standard error so far."""
        with suppress(FileNotFoundError):
            return self.log.read_text().splitlines()
        return []

    def reaches(self, line: str, seconds: float = 300) -> bool:
        """Wait for a line that starts so; False if the run ended without it."""
        end = time.monotonic() + seconds
        while not any(each.startswith(line) for each in self.said()):
            if not self.process.is_alive():
                return any(each.startswith(line) for each in self.said())
            assert time.monotonic() < end, f"{line!r} did not come: {self.said()}"
            time.sleep(0.005)
        return True

    def signal(self, number: int) -> None:
        """Send a signal to the run, if it is still there."""
        assert self.process.pid is not None
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    def end(self, seconds: float = 300) -> int:
        """Wait for its end and return the exit code, negative for a signal."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"no end within {seconds:.0f} s: {self.said()}")
        return self.process.exitcode

    def error(self) -> str:
        """Return the error that it printed, after checking its three parts."""
        said = "\n".join(self.said())
        assert "Traceback" not in said, said
        assert "Unexpected error" not in said, said
        error = said[max(said.rfind("nextday: "), 0) :]
        assert "\n  where: " in error, error
        assert "\n  fix:   " in error, error
        return error


@dataclass(frozen=True)
class Moment:
    """A moment of a run: so many seconds after it printed a line (or started, for an empty one)."""

    line: str
    seconds: float

    def strike(self, run: Mortal) -> bool:
        """Kill the run at this moment; False if it ended before."""
        if self.line and not run.reaches(self.line):
            return False
        time.sleep(self.seconds)
        run.signal(signal.SIGKILL)
        return run.end() == -signal.SIGKILL


def timed_lines(run: Mortal) -> list[tuple[float, str]]:
    """Follow a run to its end and return each line with the second it came, the end as the last."""
    found: list[tuple[float, str]] = []
    while True:
        is_alive = run.process.is_alive()
        at = time.monotonic() - run.started_at
        found += [(at, line) for line in run.said()[len(found) :]]
        if not is_alive:
            return [*found, (at, "")]
        time.sleep(0.003)


def state(home: Path) -> dict[str, Any]:
    """Return the state of a workspace: what two equal histories must have in common."""
    ledger = Ledger(home / "ledger.sqlite", read_only=True)
    assert ledger.verify().problems == []
    return {
        "prices": PriceStore(home / "prices" / "sample").read().to_csv(),
        "ledger": ledger_tables(home / "ledger.sqlite"),
        "registry": _registry(home / "models" / "sample"),
        "reports": dict(_reports(home / "reports")),
        "evaluations": {
            str(path.relative_to(home)): path.read_bytes() for path in _files(home / "evaluations")
        },
        "tracked": _tracked(home),
        "files": sorted(_names(home)),
    }


def differences(found: dict[str, Any], wanted: dict[str, Any], where: str = "") -> Iterator[str]:
    """Yield each place where two states differ."""
    for name in sorted(found.keys() | wanted.keys()):
        one, other = found.get(name, "nothing"), wanted.get(name, "nothing")
        if isinstance(one, dict) and isinstance(other, dict):
            yield from differences(one, other, f"{where}{name} > ")
        elif one != other:
            yield f"{where}{name}: {_shortened(one, other)}"


def _shortened(one: Any, other: Any) -> str:
    if isinstance(one, list) and isinstance(other, list):
        only, missing = [x for x in one if x not in other], [x for x in other if x not in one]
        return f"found alone {only!s:.600}, missing {missing!s:.600}"
    texts = [each.decode(errors="replace") if isinstance(each, bytes) else str(each) for each in (one, other)]
    at = next((n for n, pair in enumerate(zip(*texts, strict=False)) if pair[0] != pair[1]), 0)
    return " instead of ".join(repr(text[max(at - 60, 0) : at + 200]) for text in texts)


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def ledger_tables(path: Path) -> dict[str, list[Any]]:
    """Return every row of the ledger's tables, hashes included."""
    with closing(sqlite3.connect(path)) as db:
        return {
            name: db.execute(f"SELECT * FROM {name} ORDER BY 1, 2, 3").fetchall()
            for name in ("forecasts", "forecast_batches", "outcomes", "outcome_batches")
        }


def _registry(folder: Path) -> dict[str, Any]:
    found = {name: json.loads((folder / name).read_text()) for name in ("versions.json", "champion.json")}
    entries = {"champion": [found["champion.json"]], "versions": found["versions.json"]}
    return {
        name: [_without_its_run(entry) | {"tags": _without_its_run(entry["tags"])} for entry in those]
        for name, those in entries.items()
    } | {"folders": sorted(path.name for path in folder.iterdir() if path.is_dir())}


def _without_its_run(facts: dict[str, Any]) -> dict[str, Any]:
    """Leave out what names the run, and the checksum of an entry, which covers that too."""
    its_own = ("flow_run", "run_id", "mlflow.", "sha256")
    return {name: fact for name, fact in facts.items() if not name.startswith(its_own)}


def _reports(folder: Path) -> Iterator[tuple[str, str]]:
    for path in _files(folder):
        if path.name != "tracked.json":  # it names the run
            yield str(path.relative_to(folder)), _OF_ITS_OWN_RUN.sub("", path.read_text())


def _tracked(home: Path) -> dict[str, Any]:
    os.environ["MLFLOW_SQLALCHEMYSTORE_POOLCLASS"] = "NullPool"  # no file is held open
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    experiment = client.get_experiment_by_name("nextday-sample")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    models = client.search_registered_models()
    return {
        "runs": sorted(
            (run.info.run_name, run.info.status, sorted(_without_its_run(run.data.tags).items()))
            for run in runs
        ),
        "metrics": sorted((run.info.run_name, sorted(run.data.metrics.items())) for run in runs),
        "artifacts": sorted(
            (run.info.run_name, item.path) for run in runs for item in client.list_artifacts(run.info.run_id)
        ),
        "versions": sorted(
            (each.name, int(each.version), each.tags["model_version"])
            for each in client.search_model_versions()
        ),
        "aliases": [
            (each.name, {name: int(number) for name, number in each.aliases.items()}) for each in models
        ],
    }


def _names(home: Path) -> Iterator[str]:
    """Yield every file outside of the price store and MLflow's folder, whose names are random."""
    for path in _files(home):
        name = str(path.relative_to(home))
        if not name.startswith(("mlflow/", "prices/sample/", "cache/")):
            yield name


def halves(home: Path) -> list[str]:
    """Return the hidden files and folders, locks excepted: only a running writer may have any."""
    hidden = (path for path in home.rglob(".*") if path.suffix != ".lock")
    return sorted(str(path.relative_to(home)) for path in hidden)


def rows(home: Path) -> pd.DataFrame:
    """Return the record of the workspace."""
    return Ledger(home / "ledger.sqlite", read_only=True).record("sample")
