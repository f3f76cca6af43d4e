"""The Prefect server that PREFECT_API_URL names: its address, whether it answers, and commands for it."""

import os
import sys
import time
from pathlib import Path

import httpx
from prefect.settings import PREFECT_API_URL

from flows.runtime.prefect_settings import list_sources
from flows.runtime.progress import log_line
from pipeline.errors import ConfigError, NextdayError

__all__ = ["prefect_command", "server_url"]

_PREFECT = Path(sys.executable).with_name("prefect")


def server_url(patience: float = 0) -> str:
    """Return the API's address, after checking that the server answers.

    Args:
        patience: Seconds to wait for an answer.

    Raises:
        ConfigError: the address contains a password.
        NextdayError: no Prefect server answers there.
    """
    url = str(PREFECT_API_URL.value() or "http://127.0.0.1:4200/api").rstrip("/")
    if "@" in url:
        raise ConfigError(
            "The address of the Prefect server contains a password, which messages and commands would repeat",
            where="PREFECT_API_URL",
            fix="remove it there, and set PREFECT_API_AUTH_STRING=user:password",
        )
    problem, end = _check_server(url), time.monotonic() + patience
    if problem and patience:
        log_line(f"waiting for the Prefect server at {url}: a new one takes a while to start")
    while problem and time.monotonic() < end:
        time.sleep(1)
        problem = _check_server(url)
    if problem:
        raise NextdayError(
            f"No Prefect server answers: {problem}",
            where=url if "PREFECT_API_URL" in os.environ else ", set in ".join([url, *list_sources()]),
            fix=f"start one and keep it running: {prefect_command('server start --host 127.0.0.1')}"
            "\n           (a remote server: set PREFECT_API_URL to its address, ending in /api; where it is unset, "
            "commands need no server)",
        )
    return url


def prefect_command(arguments: str, url: str = "") -> str:
    """Return a shell command that runs this environment's `prefect` with the server at `url`."""
    return f"{f'PREFECT_API_URL={url} ' if url else ''}{_PREFECT} {arguments}"


def _check_server(url: str) -> str:
    """Return why the server does not answer; empty if it does."""
    try:
        httpx.get(f"{url}/health", timeout=10).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return str(error) or type(error).__name__
    return ""
