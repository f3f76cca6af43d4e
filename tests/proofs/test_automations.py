"""What a real Prefect server does by itself: it tells of late and crashed runs, and ends dead ones."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.operations.automations import BLOCK
from tests.support.prefect_place import Place, wait_for
from tests.support.receivers import Receiver, http_receiver

DEAD, TROUBLE = "nextday sample: end dead runs", "nextday sample: tell of late and failed runs"

pytestmark = pytest.mark.proof


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("automations"))
    place.environment |= {"PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "1"}
    place.environment |= {"PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "2"}
    with place.server():
        yield place


def automations(place: Place) -> dict[str, dict[str, Any]]:
    return {found["name"]: found for found in place.ask("automations/filter")}


def planned_run(place: Place) -> str:
    """Plan a run that was due a minute ago, which no worker takes, and return its id."""
    due = datetime.now(UTC) - timedelta(minutes=1)
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": due.isoformat()}}
    identity = place.deployments()["maintenance"]["id"]
    created: str = place.ask(f"deployments/{identity}/create_flow_run", state=state)["id"]
    return created


def beat(place: Place, run: str) -> None:
    """Send what the process of a run sends every three minutes."""
    related = {
        "prefect.resource.id": f"prefect.deployment.{place.deployments()['maintenance']['id']}",
        "prefect.resource.role": "deployment",
    }
    event = {
        "occurred": datetime.now(UTC).isoformat(),
        "event": "prefect.flow-run.heartbeat",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        "related": [related],
        "payload": {},
        "id": str(uuid4()),
    }
    place.ask("events", [event])


def test_the_server_tells_of_late_and_crashed_runs_and_ends_dead_ones(place: Place) -> None:
    first = place.nextday("deploy")
    assert first.returncode == 0, first.stderr
    assert f"automation '{DEAD}': a run without a heartbeat for 10 minutes" in first.stdout
    assert f"no notification block '{BLOCK}'" in first.stdout
    assert set(automations(place)) == {DEAD}
    with http_receiver() as receiver:
        save_block(place, receiver)
        place.request("PATCH", f"automations/{automations(place)[DEAD]['id']}", {"enabled": False})
        again = place.nextday("deploy")
        assert again.returncode == 0, again.stderr
        assert set(automations(place)) == {DEAD, TROUBLE}
        dead = automations(place)[DEAD]
        assert not dead["enabled"]  # deploying again leaves a paused one paused
        assert receiver.requests == []

        run = planned_run(place)
        wait_for(lambda: said(receiver, "a run is Late"), 60, "the late run was told")
        place.ask(f"flow_runs/{run}/set_state", state={"type": "CRASHED"}, force=True)
        wait_for(lambda: said(receiver, "a run is Crashed"), 60, "the crashed run was told")
        assert "maintenance" in receiver.requests[-1].body.decode()

        # Ten minutes without a heartbeat, made ten seconds.
        trigger = dead["trigger"] | {"within": 10}
        body = {name: dead[name] for name in ("name", "description", "tags", "actions")}
        place.request("PUT", f"automations/{dead['id']}", body | {"trigger": trigger, "enabled": True})
        run = planned_run(place)
        place.ask(f"flow_runs/{run}/set_state", state={"type": "RUNNING"}, force=True)
        beat(place, run)
        ended = wait_for(
            lambda: ((now := place.flow_run(run))["state_type"] == "CRASHED" and now) or None,
            *(90, "the dead run is ended"),
        )
        assert "no heartbeat" in ended["state"]["message"]


def save_block(place: Place, receiver: Receiver) -> None:
    """Make the notification block that a user makes in Prefect's UI."""
    with temporary_settings({PREFECT_API_URL: place.url}):
        CustomWebhookNotificationBlock(
            name="hook", url=f"http://{receiver.host}/", json_data={"text": "{{subject}} {{body}}"}
        ).save(BLOCK)  # type: ignore[unused-coroutine]


def said(receiver: Receiver, words: str) -> bool | None:
    return any(words in request.body.decode() for request in receiver.requests) or None
