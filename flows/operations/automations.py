"""Prefect's automations for runs that start late, fail, crash or die: the server acts where no worker does."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

__all__ = ["BLOCK", "SILENCE", "deploy_automations"]

SILENCE: Final = timedelta(minutes=10)
"""A run sends a heartbeat every three minutes: after three missed ones its process counts as dead."""

BLOCK: Final = "nextday"
"""The name of the notification block that the server writes to. Its address is Prefect's secret, not nextday's."""

_ENDED: Final = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
_WORTH_TELLING: Final = {f"prefect.flow-run.{state}" for state in ("Late", "Failed", "Crashed", "TimedOut")}
_NOT_SUPPORTED: Final = (404, 405, 501)


def deploy_automations(
    client: SyncPrefectClient, universe: str, deployments: Sequence[DeploymentResponse]
) -> list[str]:
    """Create the automations of a universe's deployments, or bring them up to date; a paused one stays paused.

    Args:
        client: The client of the server.
        universe: The universe's name.
        deployments: Its deployments.

    Returns:
        What was done, one line each; also where the server has no automations.

    Raises:
        httpx.HTTPError: the server does not answer, or refused.
        PrefectException: the same.
    """
    block = _find_block(client)
    planned = [_end_dead_runs(universe, deployments)]
    if block:
        planned.append(_tell_of_trouble(universe, deployments, block))
    try:
        for automation in planned:
            _put(client, automation)
    except httpx.HTTPStatusError as error:
        if error.response.status_code in _NOT_SUPPORTED:
            return ["this server has no automations: nextday doctor finds late and dead runs"]
        raise
    lines = [f"automation {automation.name!r}: {automation.description}" for automation in planned]
    if block is None:
        lines.append(
            f"no notification block {BLOCK!r} on the server: create one in Prefect's UI (Blocks) and deploy again, and "
            "the server itself tells of late, failed and crashed runs"
        )
    return lines


def _end_dead_runs(universe: str, deployments: Sequence[DeploymentResponse]) -> AutomationCore:
    return AutomationCore(
        name=f"nextday {universe}: end dead runs",
        description=f"a run without a heartbeat for {SILENCE.seconds // 60} minutes is marked as crashed",
        tags=["nextday", universe],
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *_ENDED},
            for_each={"prefect.resource.id"},
            within=SILENCE,
            threshold=1,
            **_of(deployments),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, message="it has sent no heartbeat: its process is gone", force=True
            )
        ],
    )


def _tell_of_trouble(universe: str, deployments: Sequence[DeploymentResponse], block: UUID) -> AutomationCore:
    return AutomationCore(
        name=f"nextday {universe}: tell of late and failed runs",
        description=f"late, failed and crashed runs are told through the notification block {BLOCK!r}",
        tags=["nextday", universe],
        trigger=EventTrigger(
            posture=Posture.Reactive,
            expect=_WORTH_TELLING,
            for_each={"prefect.resource.id"},
            threshold=1,
            **_of(deployments),
        ),
        actions=[
            SendNotification(
                block_document_id=block,
                subject=f"nextday {universe}: a run is {{{{ flow_run.state.name }}}}",
                body="{{ flow.name }} {{ flow_run.name }}, due {{ flow_run.expected_start_time }}: "
                "{{ flow_run.state.name }}. nextday doctor shows what is wrong.",
            )
        ],
    )


def _of(deployments: Sequence[DeploymentResponse]) -> dict[str, ResourceSpecification]:
    """Return what restricts a trigger to the runs of these deployments."""
    return {
        "match": ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
        "match_related": ResourceSpecification(
            {
                "prefect.resource.role": "deployment",
                "prefect.resource.id": [f"prefect.deployment.{deployment.id}" for deployment in deployments],
            }
        ),
    }


def _find_block(client: SyncPrefectClient) -> UUID | None:
    """Return the notification block to write to, of whatever service; its secrets are not read."""
    for document in client.read_block_documents(include_secrets=False):
        schema = document.block_schema
        if document.name == BLOCK and schema and "notify" in schema.capabilities:
            return document.id
    return None


def _put(client: SyncPrefectClient, automation: AutomationCore) -> None:
    former = client.read_automations_by_name(automation.name)
    if not former:
        client.create_automation(automation)
        return
    client.update_automation(former[0].id, automation.model_copy(update={"enabled": former[0].enabled}))
