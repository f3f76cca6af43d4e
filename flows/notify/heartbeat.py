"""Ping a dead man's switch, which tells somebody when the pings stop."""

from typing import Final, Literal

import httpx

from flows.notify.addresses import call_within, resolve, silence_clients

__all__ = ["ping"]

_PATIENCE: Final = 5.0
"""Seconds that a ping may take: a run does not wait longer for it."""

Signal = Literal["start", "success", "fail"]


def ping(name: str, signal: Signal, text: str = "") -> str:
    """Send a signal to the monitor, and return what went wrong without the address; empty where it was received.

    The convention is that of healthchecks.io, which others follow: the URL itself means success, /start and /fail
    below it the beginning and a failure; the body of the request is kept as a log.

    Args:
        name: The setting that names the URL, "env:NAME".
        signal: What has happened.
        text: What to log there, for example the exit code and the error.
    """
    address = resolve(name)
    if not address:
        return f"the environment variable {name.removeprefix('env:')} is not set"
    return call_within(_PATIENCE, lambda: _post(address, signal, text))


def _post(address: str, signal: Signal, text: str) -> str:
    silence_clients()
    try:
        url = httpx.URL(address)
        if signal != "success":
            url = url.copy_with(path=f"{url.path.rstrip('/')}/{signal}")
        answer = httpx.post(url, content=text[:10_000], timeout=_PATIENCE)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return f"the monitor could not be reached: {type(error).__name__}"  # its text may contain the address
    return "" if answer.is_success else f"the monitor answered {answer.status_code}"
