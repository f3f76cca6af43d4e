"""Check the addresses of [notify]: whether the last message and the last ping of the heartbeat arrived."""

from typing import Final

from flows.notify.addresses import resolve
from flows.notify.news import notifier_of
from flows.operations.health import HealthCheck, failed, passed
from flows.runtime.context import Run

__all__ = ["check_addresses"]

_TEST: Final = "nextday notify test sends a message to every address"


def check_addresses(run: Run) -> list[HealthCheck]:
    """Check each address by its last attempt; one that was never used must be set in this environment."""
    return [_check(run, name, name) for name in run.config.notify.to] + (
        [_check(run, name, f"heartbeat {name}")] if (name := run.config.notify.heartbeat) else []
    )


def _check(run: Run, name: str, noted: str) -> HealthCheck:
    variable = name.removeprefix("env:")
    is_heartbeat = noted != name
    test = "nextday forecast pings it" if is_heartbeat else _TEST
    attempt = notifier_of(run).log.last.get(noted)
    if attempt and attempt.problem:
        return failed(
            f"[notify] {noted}: the last attempt failed at {attempt.at}: {attempt.problem}",
            f"put a working address into {variable} where the runs start; then {test}",
        )
    if attempt:
        return passed(f"[notify] {noted}: last used {attempt.at}")
    if not resolve(name):
        return failed(
            f"[notify] {noted}: it was never used, and the environment variable {variable} is not set here",
            f"set it where the runs start (the worker, or the service), and here; then {test}",
        )
    return passed(f"[notify] {noted}: never used yet; {test}")
