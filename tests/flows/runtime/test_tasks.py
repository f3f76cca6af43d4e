"""Which tasks of an evening are tried again, and that a task outside of a flow run needs no server."""

import threading
import time

import pytest
from prefect import Task, flow
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.evening import explain, forecasting, reporting, settlement
from flows.evening.publishing import publish, site
from flows.nightly import nightly
from flows.prices import fetch, update
from flows.runtime.tasks import Retries, call_flow, run_beside, task
from flows.training import champion, history, network_insight, scoring, train

pytestmark = pytest.mark.slow

STEPS = (update, fetch, history, train, scoring, network_insight, champion,
         forecasting, explain, settlement, reporting, site, publish)  # fmt: skip


def test_only_fetching_is_tried_again() -> None:
    tasks = [thing for module in STEPS for thing in vars(module).values() if isinstance(thing, Task)]
    assert len({task.name for task in tasks}) >= 14
    assert {task.name for task in tasks if task.retries} == {"fetch prices"}
    assert not any(task.persist_result for task in tasks)
    assert nightly.retries == 0
    assert (fetch.fetch_prices.retries, fetch.fetch_prices.retry_delay_seconds) == (3, [2.0, 4.0, 8.0])
    assert fetch.fetch_prices.retry_jitter_factor


NOBODY = "http://127.0.0.1:9/api"


class Failing:
    """Fails a number of times, then returns how often it was called."""

    def __init__(self, failures: int, error: type[Exception] = ConnectionError) -> None:
        self.failures, self.error, self.calls = failures, error, 0

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error(f"failure {self.calls}")
        return self.calls


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the seconds slept between tries, which are not slept."""
    seconds: list[float] = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


def tried(work: Failing) -> int:
    @task("try", retries=Retries(ConnectionError, delays=(2.0, 4.0)))
    def attempt() -> int:
        return work()

    with temporary_settings({PREFECT_API_URL: NOBODY}):  # asked, it would fail
        return attempt()


def test_outside_of_a_flow_run_a_task_is_its_function_with_its_retries(waited: list[float]) -> None:
    assert tried(Failing(0)) == 1
    assert not waited
    assert tried(Failing(2)) == 3
    assert [1 <= waited[0] <= 3, 2 <= waited[1] <= 6] == [True, True]
    with pytest.raises(ConnectionError, match="failure 3"):
        tried(Failing(3))
    del waited[:]
    with pytest.raises(KeyError):
        tried(Failing(1, KeyError))
    assert not waited


def test_outside_of_a_flow_run_a_task_has_its_time_limit() -> None:
    @task("hang", timeout=0.2)
    def hang() -> None:
        for _ in range(100):  # in a thread the limit is noticed between two steps
            time.sleep(0.2)

    with pytest.raises(TimeoutError):
        hang()


def test_without_a_server_a_flow_is_called_as_its_function() -> None:
    @flow
    def work(number: int) -> tuple[int, bool]:
        return number, FlowRunContext.get() is None

    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert call_flow(work, 3) == (3, True)


def test_with_a_server_a_flow_runs_in_it(prefect_server: None) -> None:
    @flow
    def work(number: int) -> tuple[int, bool]:
        return number, FlowRunContext.get() is None

    assert call_flow(work, 3) == (3, False)


@pytest.mark.parametrize("server", [False, True])
def test_work_beside_the_block_belongs_to_the_same_flow_run(
    server: bool, request: pytest.FixtureRequest
) -> None:
    if server:
        request.getfixturevalue("prefect_server")

    @flow
    def work() -> tuple[bool, bool, bool]:
        begun, here = threading.Event(), FlowRunContext.get()

        def beside() -> bool:
            begun.set()
            return FlowRunContext.get() is here

        with run_beside(beside) as result:
            is_at_once = begun.wait(10)
        return is_at_once, result.result(), here is not None

    if server:
        assert work() == (True, True, True)
    else:
        with temporary_settings(restore_defaults={PREFECT_API_URL}):
            assert call_flow(work) == (True, True, False)


def test_the_block_waits_for_the_work_beside_it_also_when_it_fails() -> None:
    ended = []

    def fail() -> None:
        raise ValueError("failed")

    def work() -> None:
        time.sleep(0.2)
        ended.append(True)

    with pytest.raises(ValueError, match="failed"), run_beside(work):
        fail()
    assert ended
    with run_beside(fail) as result:
        pass
    assert isinstance(result.exception(), ValueError)


def test_the_block_does_not_wait_for_the_work_beside_it_when_a_signal_ends_the_run() -> None:
    ended = threading.Event()
    with pytest.raises(KeyboardInterrupt), run_beside(ended.wait, 10) as result:
        raise KeyboardInterrupt
    assert not result.done()
    ended.set()
