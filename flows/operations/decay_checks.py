"""Check the live record: a record that has decayed stays a problem until a person has looked at it."""

from flows.evening.decay import judge_record
from flows.operations.health import HealthCheck, failed, passed
from flows.runtime.context import Run
from pipeline.ledger.known_head import ledger_exists
from pipeline.ledger.ledger import Ledger
from pipeline.monitoring.acceptance import read_acceptances

__all__ = ["check_decay"]


def check_decay(run: Run) -> list[HealthCheck]:
    """Say of each output whether the live record is as expected; nothing without a ledger or for a historical source.

    Raises:
        NextdayError: the ledger or the accepted alarms cannot be read.
    """
    if run.is_historical or not ledger_exists(run.workspace.ledger):
        return []
    read_acceptances(run.workspace.alarms(run.name))
    record = Ledger(run.workspace.ledger, read_only=True).universe_record(run.name)
    return [
        failed(
            f"live record: {decay.sentence}",
            "nextday alarm show explains it; retrain or change the settings, then nextday alarm accept --why TEXT",
        )
        if decay.state == "decayed"
        else passed(f"live record: {decay.sentence}")
        for decay in judge_record(run, record)
    ]
