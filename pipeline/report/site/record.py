"""The record of each output in numbers: backtest, live and late rows apart, each compared with its base rates."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import pandas as pd

from pipeline.evaluation import rolling
from pipeline.evaluation.subgroups import score_groups
from pipeline.evaluation.timing_and_picking import judge_skills
from pipeline.evaluation.verdict import BASE_RATE, Skill, Verdict, judge
from pipeline.outputs import Output, list_outputs, select_output
from pipeline.report.evening_report import Report
from pipeline.schema import GROUP_SCORES, empty
from pipeline.statistics.metrics import reliability

__all__ = ["KINDS", "Part", "compare_with_base_rate", "measure_parts", "score_symbols"]

KINDS: Final = ("backtest", "live", "late")
"""Rows that are never added up: out-of-sample rows of a training, forecasts sealed before the open, and later ones."""

_BINS: Final = 10


@dataclass(frozen=True, eq=False)
class Part:
    """One kind of rows of one output, with what they say of the method.

    Attributes:
        output: The output.
        kind: backtest, live or late.
        verdict: Against the base rate: log loss saved per session with its interval, n and sessions.
        skills: Timing and picking against no skill.
        scores: The rows of schema.SCORES that are of these rows, of the model and of the base rate.
        saved: Of `rolling.roll_saved`.
        hits: Of `rolling.roll_hit_rate`.
        calibration: mean_p, share_up, n, low, high by groups of similar forecasts.
        first, last: The first and the last target session.
    """

    output: Output
    kind: str
    verdict: Verdict
    skills: tuple[Skill, ...]
    scores: pd.DataFrame
    saved: pd.DataFrame
    hits: pd.DataFrame
    calibration: pd.DataFrame
    first: pd.Timestamp
    last: pd.Timestamp

    def score(self, metric: str, *, of_base_rate: bool = False) -> dict[str, Any] | None:
        """Return the score of a metric of the model, or of the base rate; None where it was not measured."""
        rows = self.scores[(self.scores["metric"] == metric)]
        rows = rows[(rows["model"] == BASE_RATE) == of_base_rate]
        return {str(name): cell for name, cell in rows.iloc[0].items()} if len(rows) else None


def compare_with_base_rate(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return settled rows of the record in the long form of scores: the model's, and their sealed base rates."""
    settled = rows[rows["outcome"].notna()]
    return pd.concat(
        [settled.assign(model=name), settled.assign(model=BASE_RATE, p_up=settled["baseline_p_up"])],
        ignore_index=True,
    )


def measure_parts(report: Report) -> list[Part]:
    """Return what is known of each output: backtest, live and late rows apart, those without a settled row left out."""
    return [part for output in report.outputs for part in _measure_output(report, output)]


def _name_model(report: Report) -> str:
    """Return the model's name in scores; those of the record have one also where the evaluation is lost."""
    if report.verdict:
        return report.verdict.model
    own = report.live_scores.loc[report.live_scores["model"] != BASE_RATE, "model"]
    return str(own.iloc[0]) if len(own) else "model"


def _measure_output(report: Report, output: Output) -> Iterator[Part]:
    verdict = report.further.get(output, report.verdict if output == report.outputs[0] else None)
    rows = report.test_rows
    if verdict is not None and len(rows) and output in list_outputs(rows):
        rows = select_output(rows, output)
        scores = select_output(report.scores, output)
        own = rows[rows["model"].isin([verdict.model, BASE_RATE]) & rows["outcome"].notna()]
        if {verdict.model, BASE_RATE} <= {*own["model"]}:
            part = _measure(own, output, "backtest", verdict.model, scores[scores["group"] == "all"])
            yield replace(part, skills=verdict.skills or part.skills)  # those that the report tells
    name = _name_model(report)
    record = select_output(report.record, output)
    for kind in KINDS[1:]:
        own = compare_with_base_rate(record[record["kind"] == kind], name)
        if len(own):
            scores = select_output(report.live_scores, output)
            yield _measure(own, output, kind, name, scores[scores["group"] == kind])


def _measure(rows: pd.DataFrame, output: Output, kind: str, name: str, scores: pd.DataFrame) -> Part:
    own, other = (rows[rows["model"] == each] for each in (name, BASE_RATE))
    best = pd.DataFrame(
        {"skill": skill, "baseline": BASE_RATE, **output._asdict()} for skill in ("timing", "picking")
    )
    p, y = own["p_up"].to_numpy(float), own["outcome"].to_numpy(float)
    return Part(
        output=output,
        kind=kind,
        verdict=judge(rows, model=name, baseline=BASE_RATE),
        skills=judge_skills(rows, model=name, best=best),
        scores=scores[scores["model"].isin([name, BASE_RATE])],
        saved=rolling.roll_saved(rows, model=name, baseline=BASE_RATE),
        hits=rolling.roll_hit_rate(own, other),
        calibration=reliability(p, y, _BINS, session=own["target_session"].to_numpy()),
        first=own["target_session"].min(),
        last=own["target_session"].max(),
    )


def score_symbols(report: Report, listing: "pd.Series[str]") -> pd.DataFrame:
    """Return the scores of each listing in the record, live and late apart: schema.GROUP_SCORES and kind.

    Args:
        report: Tonight's report.
        listing: The current symbol of each row of the record.
    """
    found = [empty(GROUP_SCORES).assign(kind="")]
    record = report.record.assign(symbol=listing)
    name = _name_model(report)
    for kind, of_kind in record[record["outcome"].notna()].groupby("kind"):
        for output in list_outputs(of_kind):
            rows = compare_with_base_rate(select_output(of_kind, output), name)
            scores = score_groups(rows, model=name, baseline=BASE_RATE, families=("symbol",))
            found.append(scores.assign(kind=str(kind)))
    return pd.concat([each for each in found if len(each)] or found, ignore_index=True)
