"""Score a procedure on its test range: every output, the issued directions, large moves, and the verdict."""

from dataclasses import replace

import numpy as np
import pandas as pd

from flows.runtime.context import Run
from flows.runtime.progress import log_line, log_quietly
from flows.runtime.tasks import task
from flows.training.compute import Compute
from flows.training.epochs import epochs_shown, plan_epochs
from flows.training.history import History
from flows.training.model_factory import make_recipe
from flows.training.per_symbol import symbols_named
from pipeline.evaluation.context_gain import ContextGain, measure_gain
from pipeline.evaluation.scores import score
from pipeline.evaluation.selective import score_coverage, select_issued
from pipeline.evaluation.timing_and_picking import judge_skills
from pipeline.evaluation.verdict import Verdict, best_baseline, compare_with_window, find_best_methods, judge
from pipeline.features.columns import FeatureSet
from pipeline.features.sequences import Sequences
from pipeline.forecasting.folds import Fold
from pipeline.forecasting.forecast import forecast
from pipeline.forecasting.model import fit
from pipeline.forecasting.walk_forward import Walk, mask_labels
from pipeline.outputs import Output, list_outputs, select_main, select_output
from pipeline.schema import FORECAST_KEY, SCORES, empty

__all__ = ["measure_context", "score_further_outputs", "score_procedure"]


@task("score")
def score_procedure(run: Run, walk: Walk, baseline: str = "") -> tuple[pd.DataFrame, Verdict]:
    """Score the test rows of the first output against `baseline`.

    Args:
        run: The run.
        walk: The rows before the test range and in it.
        baseline: Default: the prior-best one, with the lowest log loss on the rows before the test range.
    """
    scores, verdict = _score_output(run, walk, list_outputs(walk.test)[0], baseline)
    if run.config.labels.dead_zone != (0, 0):
        down, up = run.config.labels.dead_zone
        rows = select_main(walk.test)
        moved = rows[(rows["realized_return"] < down) | (rows["realized_return"] > up)]
        seed = run.config.training.seed
        large = score(moved, baseline=verdict.baseline, group="large moves", seed=seed)
        scores = pd.concat([scores, large])
    return scores.reset_index(drop=True), verdict


@task("score further outputs")
def score_further_outputs(
    run: Run, walk: Walk, baseline: str = ""
) -> tuple[pd.DataFrame, dict[Output, Verdict]]:
    """Score each output after the first separately, against `baseline`; default: the output's prior-best one."""
    _, *further = list_outputs(walk.test)
    found = {output: _score_output(run, walk, output, baseline) for output in further}
    scores = [scores for scores, _ in found.values()] or [empty(SCORES)]
    return pd.concat(scores, ignore_index=True), {each: verdict for each, (_, verdict) in found.items()}


def _score_output(run: Run, walk: Walk, output: Output, baseline: str) -> tuple[pd.DataFrame, Verdict]:
    model, seed = run.config.model.name, run.config.training.seed
    test = select_output(walk.test, output)
    if not baseline:
        before = select_output(walk.before, output)
        baseline = best_baseline(before[before["model"] != model])
    parts = [score(test, baseline=baseline, seed=seed)]
    if run.config.calibration.coverage < 1:
        parts += _score_issued(run, test, baseline)
    skills = judge_skills(test, model=model, best=select_output(walk.best, output), seed=seed)
    among, compared = find_best_methods(test, seed=seed)
    verdict = replace(
        judge(test, model=model, baseline=baseline, seed=seed),
        skills=skills,
        among=among,
        compared=compared,
        recurrence=compare_with_window(test, model=model, seed=seed) if run.config.model.is_deep else "",
    )
    for sentence in verdict.sentences:
        log_quietly(sentence)  # the command prints them at its end
    return pd.concat(parts), verdict


def _score_issued(run: Run, rows: pd.DataFrame, baseline: str) -> list[pd.DataFrame]:
    """Score the share of rows on which the network issues a direction, and every model on those rows."""
    model, seed = run.config.model.name, run.config.training.seed
    target = run.config.calibration.coverage
    share = score_coverage(rows, model=model, target=target, seed=seed)
    issued = score(select_issued(rows, model), baseline=baseline, group="sides taken", seed=seed)
    return [part for part in (share, issued) if len(part)]


@task("measure the context")
def measure_context(run: Run, known: History, walk: Walk, fold: Fold, compute: Compute) -> ContextGain:
    """Fit the same model without the context series, and compare the two on the sessions before the test.

    Args:
        run: The run.
        known: The history.
        walk: The rows of the fit with them; its forecasts before the test are those of the first fit.
        fold: The ranges of that fit.
        compute: Where the model is trained.

    Returns:
        What the series brought on the first output.
    """
    features = run.feature_set(outputs=known.sequences.outputs)
    less = run.feature_set(
        outputs=known.sequences.outputs, added=[name for name in features.added if name != "context"]
    )
    sequences = _with_columns(known, features, less)
    members, _ = plan_epochs(run.config, len(sequences.symbols))
    with (
        epochs_shown("train without context", members, run.config.training.epochs) as progress,
        symbols_named(sequences.symbols),
    ):
        model = make_recipe(run, less, len(sequences.outputs), progress, compute)
        labelled = mask_labels(sequences, fold, run.config.labels.dead_zone, refit=False)
        fitted = fit(model, labelled, fold, run.config.training.seed)
    rows = forecast(fitted, sequences, range(fold.stop.start, fold.calibrate.stop), run.calendar)
    own = walk.before[walk.before["model"] == run.config.model.name]
    sessions = {name: rows[name].dtype for name in ("as_of", "target_session")}
    own = own.astype({"symbol": "str", "target": "str", "horizon": "int64", "model": "str", **sessions})
    gain = measure_gain(
        select_main(own),
        select_main(rows)[[*FORECAST_KEY, "p_up"]],
        features.context,
        seed=run.config.training.seed,
    )
    log_line(gain.sentence)
    return gain


def _with_columns(known: History, features: FeatureSet, less: FeatureSet) -> Sequences:
    """Return the sequences with the columns of `less` alone, on the same rows."""
    kept = [features.columns.index(name) for name in less.columns]
    x = np.ascontiguousarray(known.sequences.x[:, :, kept])
    return replace(known.sequences, x=x, features=less.columns)
