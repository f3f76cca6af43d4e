"""The trials of the run's universe: how many settings were tried."""

from datetime import datetime

import pandas as pd

from flows.prices.update import PriceStatus
from flows.runtime.context import Run
from flows.runtime.custom_code import digest_code_of
from flows.runtime.progress import log_line
from pipeline.errors import NextdayError, StoreError
from pipeline.outputs import select_main
from pipeline.statistics.metrics import log_losses
from pipeline.tracking.trials import Trial, TrialBook, count_settings, digest_procedure, list_parameters

__all__ = ["count_trial", "describe_trials"]


def describe_trials(run: Run, until: datetime | None = None) -> str:
    """Return a sentence on how many settings were tried on the universe.

    Args:
        run: The run.
        until: Leave out the trials of later runs; default: count all of them.
    """
    try:
        return count_settings(TrialBook(run.workspace.trials(run.name)).read(until)).sentence
    except StoreError as error:
        return f"The number of settings tried is unknown. {error.what}."


def count_trial(
    run: Run,
    price_status: PriceStatus,
    test_rows: pd.DataFrame,
    study: str = "",
    digest: str = "",
    sharpe: float | None = None,
) -> None:
    """Record that these settings were scored on the test set, and log how many have been tried so far.

    Args:
        run: The run.
        price_status: How far the prices reach.
        test_rows: The forecasts of the test set with their outcomes.
        study: The search that the settings come from, if any.
        digest: The digest of the settings; default: that of the run's.
        sharpe: The Sharpe ratio of their trading, where it was simulated.
    """
    scored = select_main(test_rows)
    rows = scored[(scored["model"] == run.config.model.name) & scored["outcome"].notna()]
    losses = pd.Series(
        log_losses(rows["p_up"].to_numpy(float), rows["outcome"].to_numpy(float)), rows["as_of"]
    )
    by_session = losses.groupby(level=0).mean()
    if by_session.empty:
        return
    trial = Trial(
        kind="test",
        when=run.clock(),
        digest=digest or digest_procedure(run.config, digest_code_of(run)),
        state="complete",
        parameters=list_parameters(run.config),
        objective=float(by_session.mean()),
        folds=(float(by_session.mean()),),
        sessions=len(by_session),
        losses=tuple(by_session.round(8).tolist()),
        as_of=f"{price_status.as_of:%Y-%m-%d}",
        data_version=price_status.seq,
        study=study,
        sharpe=sharpe,
    )
    book = TrialBook(run.workspace.trials(run.name))
    try:
        book.add(trial)
        log_line(count_settings(book.read()).sentence)
    except NextdayError as error:
        log_line(f"this training is not counted among the trials: {error}")
