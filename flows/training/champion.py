"""Make a champion: train, score, refit, register, promote."""

from dataclasses import replace

import pandas as pd

from flows.prices.update import PriceStatus
from flows.runtime.context import Run
from flows.runtime.custom_code import describe_missing_audit, digest_code_of
from flows.runtime.progress import log_line
from flows.runtime.tasks import run_beside, task
from flows.runtime.tracking import run_tags, tracking
from flows.training.compute import open_compute
from flows.training.evaluation import Evaluation, range_table, save_evaluation
from flows.training.history import make_sequences
from flows.training.network_insight import inspect_network
from flows.training.scoring import measure_context, score_further_outputs, score_procedure
from flows.training.train import fitted_network, train_champion, train_procedure
from flows.training.verified_champion import Champion, read_champion
from pipeline.errors import NextdayError
from pipeline.evaluation.verdict import Verdict
from pipeline.memory import return_freed_memory
from pipeline.outputs import Output, name_key, select_main
from pipeline.report.evening_page import evaluation_figures
from pipeline.statistics.metrics import log_losses
from pipeline.storage.files import digest_files
from pipeline.tracking.trials import Trial, TrialBook, count_settings, digest_procedure, list_parameters

__all__ = ["count_trial", "make_champion"]


def make_champion(run: Run, price_status: PriceStatus) -> tuple[Champion, Evaluation]:
    """Train and score the procedure, refit it through as_of, register and promote that model."""
    known = make_sequences(run, price_status.as_of, price_status.seq).without_prices()
    return_freed_memory()
    with open_compute(run, known.sequences) as compute, run_beside(tracking(run).prepare):
        walk, score_epochs, fold = train_procedure(run, known, compute)
        network = fitted_network(run, walk)
        gain = measure_context(run, known, walk, fold, compute) if known.panel.context else None
        scores, verdict = score_procedure(run, walk)
        count_trial(run, price_status, walk.test)
        further: dict[Output, Verdict] = {}
        if len(known.sequences.outputs) > 1:
            farther, further = score_further_outputs(run, walk)
            scores = pd.concat([scores, farther], ignore_index=True)
        if run.universe.bias:
            log_line(f"the scores are {run.universe.bias}")
        if unaudited := describe_missing_audit(run):
            log_line(unaudited)
        test_rows = walk.test
        del walk  # its rows from before the test take as much memory as those of the test
        return_freed_memory()
        with run_beside(inspect_network, run, known, network, fold) as insight:
            version, champion_epochs, final = train_champion(run, known, compute, network)
    evaluation = Evaluation(
        scores=scores,
        verdict=verdict,
        test_rows=test_rows,
        epochs=pd.concat([score_epochs, champion_epochs], ignore_index=True),
        ranges=range_table(run, known, {"score": fold, "champion": final}),
        further=further,
        insight=insight.result(),
        context=gain,
    )
    del known
    return_freed_memory()
    figures = dict(evaluation_figures(evaluation, run.ledger.record(run.name)))
    evaluation = replace(evaluation, figures=figures)
    save_evaluation(run.workspace.evaluation(run.name, version), evaluation)
    return promote(run, price_status, version, evaluation), evaluation


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


@task("promote")
def promote(run: Run, price_status: PriceStatus, version: str, evaluation: Evaluation) -> Champion:
    """Track the training in MLflow, register its model and make it the champion."""
    book = tracking(run)
    folder = run.workspace.evaluation(run.name, version)
    book.record_training(
        universe=run.name,
        run_name=f"{run.name} through {price_status.as_of:%Y-%m-%d}",
        config=run.resolved["settings"],
        config_digest=run.digest,
        model_dir=run.workspace.model(run.name, version),
        model_version=version,
        tags=run_tags(run)
        | {
            "trained_through": f"{price_status.as_of:%Y-%m-%d}",
            "data_version": str(price_status.seq),
        }
        | evaluation.verdict.tags
        | {f"verdict_{name_key(output)}": each.title for output, each in evaluation.further.items()},
        epochs=evaluation.epochs,
        scores=evaluation.scores,
        scored_model=evaluation.verdict.model,
        artifacts=[*sorted(folder.iterdir()), run.settings_file],
        evaluation=digest_files(folder),
    )
    book.promote(run.name, version, promoted_at=run.now)
    log_line(f"champion {version} promoted")
    champion = book.champion(run.name)
    assert champion is not None
    return read_champion(champion)
