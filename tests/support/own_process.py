"""Tests marked `own_process` run in a process that ends, a file in one: TensorFlow never frees what it has compiled.

They are forked from a process that has imported everything and run nothing, for threads of TensorFlow, OpenMP and
Prefect do not survive a fork. A file that grows a lot after its first test, which needs what all of them need, goes on
in a fresh process; its fixtures are then made again.

The mark may name modules that are imported only when they are needed: they are imported once, before the first process
that needs them is forked, and not by each.
"""

import importlib
import os
import resource
import signal
import sys
import warnings
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

__all__ = ["EVENING", "Nursery", "is_marked"]

EVENING = (
    "alembic.script",
    "mlflow",
    "models.explain.shapley",
    "pipeline.sources.sample",
    "skops.io",
    "sklearn.ensemble",
    "sklearn.linear_model",
)
"""What an evening imports when it needs it: as much time as the rest of the first one."""

_MOST = 250 << 20
"""Bytes by which a process may grow after its first test before another one goes on with its file."""


class Nursery:
    """A pytest plugin: runs the tests that are marked in processes forked for them."""

    def __init__(self, session: pytest.Session) -> None:
        self._session = session
        self._config = session.config
        self._places = {item: place for place, item in enumerate(session.items)}
        self._config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # whoever makes it empties it
        self._ours, theirs = Pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads: execnet's only read a socket
            self._parent = os.fork()
        if not self._parent:
            self._ours.close()
            self._serve(theirs)
        theirs.close()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run a marked test in another process, and report it as if it had run here."""
        if not is_marked(item):
            return None
        goes_on = nextitem is not None and nextitem.path == item.path and is_marked(nextitem)
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        self._ours.send((self._places[item], self._places[nextitem] if goes_on and nextitem else None))
        for report in self._received(item):
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        # What the test before has left standing for this one (its package) may not be what the next one needs.
        item.session._setupstate.teardown_exact(nextitem)
        return True

    def pytest_sessionfinish(self) -> None:
        """End the process that forks."""
        self._ours.close()
        os.waitpid(self._parent, 0)

    def _received(self, item: pytest.Item) -> Iterator[pytest.TestReport]:
        answer = self._ours.recv()
        if isinstance(answer, list):
            for data in answer:
                yield self._config.hook.pytest_report_from_serializable(config=self._config, data=data)
        else:
            yield pytest.TestReport(
                item.nodeid, item.location, {}, "failed", f"its process ended: {answer}", "call"
            )

    def _serve(self, connection: Connection) -> None:
        """Fork a process for the first test of each file, and never return."""
        # The other end is told of Ctrl+C, and hangs up. A handler: what is ignored is so in every command it starts.
        signal.signal(signal.SIGINT, lambda number, frame: None)
        while asked := _receive(connection):
            for mark in self._session.items[asked[0]].iter_markers("own_process"):
                for name in mark.args:
                    importlib.import_module(name)
            child = os.fork()
            if not child:
                self._run(connection, *asked)
            _, status = os.waitpid(child, 0)
            if status:
                code = os.waitstatus_to_exitcode(status)
                connection.send(f"signal {-code}" if code < 0 else f"exit code {code}")
        os._exit(0)

    def _run(self, connection: Connection, place: int, following: int | None) -> None:
        """Run tests as they are asked for until the file ends or the process has grown a lot, and never return."""
        items, before = self._session.items, 0
        while True:
            grown = before and _peak() - before > _MOST
            then = None if following is None or grown else items[following]
            reports = runtestprotocol(items[place], log=False, nextitem=then)
            before = before or _peak()
            connection.send([self._to_send(report) for report in reports])
            asked = _receive(connection) if then else None
            if not asked:
                os._exit(0)
            place, following = asked

    def _to_send(self, report: pytest.TestReport) -> dict[str, Any]:
        data: dict[str, Any] = self._config.hook.pytest_report_to_serializable(
            config=self._config, report=report
        )
        return data


def is_marked(item: pytest.Item) -> bool:
    """Whether a test runs in another process."""
    return item.get_closest_marker("own_process") is not None


def _receive(connection: Connection) -> tuple[int, int | None] | None:
    try:
        asked: tuple[int, int | None] = connection.recv()
    except EOFError:
        return None
    return asked


def _peak() -> int:
    """Return how many bytes of memory this process has held at most."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10
