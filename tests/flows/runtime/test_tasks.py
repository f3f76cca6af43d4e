"""Which tasks of an evening are tried again."""

import pytest
from prefect import Task

from flows.evening import explain, forecasting, publish, reporting, settlement
from flows.nightly import nightly
from flows.prices import fetch, update
from flows.training import champion, history, network_insight, scoring, train

pytestmark = pytest.mark.slow

STEPS = (update, fetch, history, train, scoring, network_insight, champion,
         forecasting, explain, settlement, reporting, publish)  # fmt: skip


def test_only_fetching_is_tried_again() -> None:
    tasks = [thing for module in STEPS for thing in vars(module).values() if isinstance(thing, Task)]
    assert len({task.name for task in tasks}) >= 14
    assert {task.name for task in tasks if task.retries} == {"fetch prices"}
    assert not any(task.persist_result for task in tasks)
    assert nightly.retries == 0
    assert fetch.fetch_prices.retry_jitter_factor
