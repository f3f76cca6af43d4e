"""The weekly flow: train, score, promote."""

from datetime import datetime
from pathlib import Path

from prefect import flow

from flows.evening.forecasting import catch_up
from flows.evening.reporting import write_missing
from flows.evening.settlement import settle
from flows.prices.update import update_prices
from flows.runtime.progress import log_line
from flows.runtime.tasks import MAX_SECONDS, open_locked_run
from flows.runtime.tracking import tracking
from flows.training.champion import make_champion
from flows.training.evaluation import Evaluation

__all__ = ["retrain"]


@flow(name="retrain", timeout_seconds=2 * MAX_SECONDS, persist_result=False)
def retrain(config: Path | None = None, home: Path | None = None, now: datetime | None = None) -> Evaluation:
    """Train and score the procedure on fresh prices, and promote its refit through as_of.

    What was missed is caught up first, so that no late row can come from a model that was trained after it.

    Args:
        config: The configuration file.
        home: The workspace.
        now: The clock; default: the wall clock.
    """
    with open_locked_run(config, home, now) as run:
        market = update_prices(run)
        remarks = catch_up(run, market, tracking(run).versions(run.name))
        for remark in remarks + write_missing(run):
            log_line(remark)
        settle(run, market)
        _, evaluation = make_champion(run, market)
    return evaluation
