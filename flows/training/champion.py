"""Make a model: train, score, refit and register it; and make it the champion."""

import getpass
from dataclasses import replace
from datetime import UTC
from typing import Final

import pandas as pd

from flows.prices.update import PriceStatus
from flows.runtime.context import Run
from flows.runtime.custom_code import describe_missing_audit
from flows.runtime.progress import log_line
from flows.runtime.tasks import run_beside, task
from flows.runtime.tracking import follow_shared_models, run_tags, shared_models, tracking
from flows.training.compute import open_compute
from flows.training.evaluation import Evaluation, range_table, save_evaluation
from flows.training.history import make_sequences
from flows.training.network_insight import inspect_network
from flows.training.scoring import measure_context, score_further_outputs, score_procedure
from flows.training.train import fitted_network, train_champion, train_procedure
from flows.training.trials import count_trial
from flows.training.verified_champion import Champion, read_champion
from models.ensembles.model_files import model_version
from pipeline.errors import NextdayError, TrackingUnreachableError
from pipeline.evaluation.verdict import Verdict
from pipeline.memory import return_freed_memory
from pipeline.outputs import Output, name_key
from pipeline.report.evening_page import evaluation_figures
from pipeline.storage.files import digest_files
from pipeline.tracking.challengers import ChallengerBook, Promotion
from pipeline.tracking.registry import Registry

__all__ = [
    "ALWAYS",
    "BY_HAND",
    "FIRST",
    "REPLACED",
    "make_champion",
    "promote",
    "show_challengers",
    "train_model",
    "who_is_it",
]

FIRST: Final = "first"
ALWAYS: Final = "always"
REPLACED: Final = "replaced"
BY_HAND: Final = "by hand"
"""Reasons of a promotion, beside those of `pipeline.monitoring.challenge`."""


def make_champion(run: Run, price_status: PriceStatus) -> Champion:
    """Train and score the procedure, refit it through as_of, and make that model the first champion."""
    model, _ = train_model(run, price_status)
    return promote(run, model, FIRST, "the first champion")


def train_model(run: Run, price_status: PriceStatus) -> tuple[Champion, Evaluation]:
    """Train and score the procedure, refit it through as_of, and register that model; it serves nobody yet."""
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
    return register(run, price_status, version, evaluation), evaluation


@task("register")
def register(run: Run, price_status: PriceStatus, version: str, evaluation: Evaluation) -> Champion:
    """Track the training in MLflow, and register its model."""
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
    return read_champion(book.version(run.name, version))


@task("promote")
def promote(run: Run, model: Champion, reason: str, sentence: str, by: str = "") -> Champion:
    """Make a registered model the champion, and write down why; no sealed row changes.

    Args:
        run: The run.
        model: The model.
        reason: One word.
        sentence: The reason in words.
        by: Who did it by hand.

    Returns:
        The model as champion.

    Raises:
        NextdayError: its files are missing or damaged, or the lists cannot be written.
        TrackingUnreachableError: other machines share the models, and they cannot be told.
    """
    follow_shared_models(run)  # hours may have passed since the run began
    book, challengers = tracking(run), ChallengerBook(run.workspace.home)
    serving = Registry(run.workspace.home, model_version).serving(run.name)
    former = serving.model_version if serving else ""
    if former != model.version:
        at = run.now.astimezone(UTC).isoformat()
        made = Promotion(model.version, former, at, reason, sentence, by)
        if book.shared:  # before it serves here: no machine may be the only one that it serves
            book.shared.announce(run.name, made)
        # Before it serves: a run that was killed in between decides alike, and writes it down once.
        challengers.note(run.name, made)
    book.promote(run.name, model.version, promoted_at=run.now)
    challengers.forget(run.name, model.version)
    try:
        show_challengers(run)
    except TrackingUnreachableError as error:  # the next run takes it off the list
        log_line(str(error))
    log_line(f"champion {model.version} promoted: {sentence}")
    champion = book.champion(run.name)
    assert champion is not None
    return read_champion(champion)


def show_challengers(run: Run) -> None:
    """Let MLflow's aliases follow the list of challengers; where they cannot, the list counts.

    Raises:
        TrackingUnreachableError: other machines share the list, and they cannot be told.
    """
    if shared := shared_models(run):
        shared.show_challengers(run.name)
        return
    standing = ChallengerBook(run.workspace.home).challengers(run.name)
    try:
        tracking(run).show_challengers(run.name, {each.name: each.model_version for each in standing})
    except NextdayError as error:
        log_line(str(error))


def who_is_it() -> str:
    """Return the name of the user who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry in the passwd file, as in a container
        return "unknown"
