"""The weekly flow: train and score a model on fresh prices; it challenges the champion, or replaces it."""

from datetime import datetime
from pathlib import Path

from prefect import flow

from flows.evening.forecasting import catch_up
from flows.evening.reporting import write_missing
from flows.evening.retraining import Retrained, require_challenge, retrain_in
from flows.evening.settlement import settle
from flows.notify.watch import watched
from flows.prices.update import update_prices
from flows.runtime.progress import log_line
from flows.runtime.tasks import MAX_SECONDS, open_locked_run
from flows.runtime.tracking import follow_shared_models
from flows.training.compute import require_gpu
from flows.training.verified_champion import Champions
from pipeline.tracking.challengers import RETRAINED

__all__ = ["retrain"]


@flow(name="retrain", timeout_seconds=2 * MAX_SECONDS, persist_result=False)
def retrain(
    config: Path | None = None,
    home: Path | None = None,
    now: datetime | None = None,
    name: str = RETRAINED,
) -> Retrained:
    """Train and score the procedure on fresh prices and refit it through as_of; see [promotion] for what follows.

    Missed sessions are caught up first, so that no late row comes from a model that was trained after it.

    Args:
        config: The configuration file.
        home: The workspace.
        now: The clock; default: the wall clock.
        name: What the model is called as challenger.
    """
    with watched("retrain", config, home, now), open_locked_run(config, home, now) as run:
        require_gpu(run)
        follow_shared_models(run)
        champions = Champions(run)
        champions.check_list()  # before hours of training, not after
        if name != RETRAINED:
            require_challenge(run, champions, name)
        price_status = update_prices(run)
        record = run.ledger.universe_record(run.name)
        if name == RETRAINED:  # another procedure's settings are not those that the evenings run with
            remarks = catch_up(run, price_status, record, champions)
            for remark in remarks + write_missing(run, record, champions):
                log_line(remark)
        settle(run, price_status, record)
        return retrain_in(run, price_status, record.rows, champions, name)
