"""Progress in Prefect."""

import pytest
from prefect import flow
from prefect.client.orchestration import get_client

from flows.runtime import progress

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]


def test_long_work_shows_its_progress_in_prefect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_UPDATE_SECONDS", 0.0)

    @flow
    def long_work() -> None:
        with progress.bar("count", 4) as advance:
            for number in range(4):
                advance(f"number {number}")

    long_work()
    with get_client(sync_client=True) as client:
        answer = client._client.post(
            "/artifacts/filter", json={"artifacts": {"type": {"any_": ["progress"]}}, "sort": "CREATED_DESC"}
        )
    (last, *_) = answer.json()
    assert last["data"] == 100.0
    assert last["description"] == "count: 4 of 4  number 3"
