"""Score a procedure on its test range: every output, the issued directions, large moves, and the verdict."""

from dataclasses import replace

import pandas as pd

from flows.runtime.context import Run
from flows.runtime.progress import log_quietly
from flows.runtime.tasks import task
from pipeline.evaluation.scores import score
from pipeline.evaluation.selective import score_coverage, select_issued
from pipeline.evaluation.timing_and_picking import judge_skills
from pipeline.evaluation.verdict import Verdict, best_baseline, find_best_methods, judge
from pipeline.forecasting.walk_forward import Walk
from pipeline.outputs import Output, list_outputs, select_main, select_output
from pipeline.schema import SCORES, empty

__all__ = ["score_further_outputs", "score_procedure"]


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
        judge(test, model=model, baseline=baseline, seed=seed), skills=skills, among=among, compared=compared
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
