"""Hand the flows to Prefect: a work pool, and prefect.yaml with the project and the workspace filled in."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
from prefect.settings import PREFECT_API_URL

from flows.run import PROJECT, Run, default_config, open_run
from pipeline.errors import NextdayError

__all__ = ["POOL", "deploy", "deployment_variables", "server_url"]

POOL = "nextday-local"


def server_url() -> str:
    """Return the API's address, checked to answer.

    Raises:
        NextdayError: no Prefect server answers there.
    """
    url = str(PREFECT_API_URL.value() or "http://127.0.0.1:4200/api")
    try:
        httpx.get(f"{url}/health", timeout=10).raise_for_status()
    except httpx.HTTPError as error:
        raise NextdayError(
            f"No Prefect server answers: {error}",
            where=url,
            way_out="start one and keep it running: .venv/bin/prefect server start --host 127.0.0.1"
            "\n           (a server elsewhere: set PREFECT_API_URL to its address, ending in /api)",
        ) from None
    return url


def deploy(config: Path | None, home: Path | None) -> list[str]:
    """Create the process work pool and deploy prefect.yaml.

    Returns:
        The lines that tell what to do next.

    Raises:
        NextdayError: no server answers, or Prefect refused; its own words are in the message.
    """
    run, url = open_run(config, home), server_url()
    environment = os.environ | {"PREFECT_API_URL": url} | deployment_variables(run, config)
    _prefect(environment, "work-pool", "create", POOL, "--type", "process", "--overwrite")
    _prefect(environment, "--no-prompt", "deploy", "--all", "--prefect-file", str(PROJECT / "prefect.yaml"))
    suffix = environment["NEXTDAY_SUFFIX"]
    return [
        f"deployed nightly/nightly{suffix}: {run.config.schedule.nightly}  ({run.calendar.timezone})",
        f"deployed retrain/retrain{suffix}: {run.config.schedule.retrain}  ({run.calendar.timezone})",
        f"now keep a worker running: PREFECT_API_URL={url} .venv/bin/prefect worker start --pool {POOL}",
        f"try it at once:            PREFECT_API_URL={url} .venv/bin/prefect deployment run nightly/nightly{suffix}",
    ]


def deployment_variables(run: Run, config: Path | None) -> dict[str, str]:
    """Return what prefect.yaml asks for.

    A configuration other than the project's own gets deployments of its own, named after its universe.
    """
    path = (config or default_config()).resolve()
    return {
        "NEXTDAY_PROJECT": str(PROJECT),
        "NEXTDAY_CONFIG": str(path),
        "NEXTDAY_HOME": str(run.workspace.home),
        "NEXTDAY_UNIVERSE": run.name,
        "NEXTDAY_SUFFIX": "" if path == default_config() else f"-{run.name}",
        "NEXTDAY_TIMEZONE": run.calendar.timezone,
        "NEXTDAY_NIGHTLY": run.config.schedule.nightly,
        "NEXTDAY_RETRAIN": run.config.schedule.retrain,
    }


def _prefect(environment: dict[str, str], *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        env=environment,
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        words = (done.stdout + done.stderr).strip()[-800:]
        raise NextdayError(f"Prefect refused `prefect {' '.join(arguments)}`:\n{words}", where=str(PROJECT))
