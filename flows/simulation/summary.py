"""What a span of sessions would have looked like, from what its simulation has left."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from flows.prices.missing import summarize_findings
from flows.runtime.context import Run
from flows.simulation.simulate import Simulated
from models.ensembles.model_files import model_version
from pipeline.evaluation.verdict import BASE_RATE, Verdict, judge
from pipeline.formatting import format_interval, format_score
from pipeline.monitoring.decay import Decay
from pipeline.outputs import Output, list_outputs, select_output
from pipeline.tracking.challengers import ChallengerBook, Promotion
from pipeline.tracking.registry import Registry

__all__ = ["OutputSummary", "Summary", "summarize"]


@dataclass(frozen=True)
class OutputSummary:
    """The simulated record of one output.

    Attributes:
        output: The output.
        scores: Log loss and hit rate with their intervals beside those of the base rate, a phrase each.
        verdict: The paired comparison with the base rate.
    """

    output: Output
    scores: list[str]
    verdict: Verdict


@dataclass(frozen=True, eq=False)
class Summary:
    """What the sessions would have looked like.

    Attributes:
        first, last: The sessions of the first and the last evening.
        evenings: How many evenings there were.
        forecasts, settled: How many forecasts were sealed, and how many of them have an outcome.
        challenger_rows: How many forecasts challengers sealed beside them.
        outputs: The record of each output; empty where nothing has an outcome.
        trainings: How many models were trained.
        promotions: Every change of champion.
        decay: What the decay alarm would have said.
        findings: The findings of the price checks of the last evening, a line per rule.
        failed: Evenings and trainings that failed for want of prices, a sentence each.
        report: The page of the last evening.
        workspace: The simulation's workspace.
    """

    first: pd.Timestamp
    last: pd.Timestamp
    evenings: int
    forecasts: int
    settled: int
    challenger_rows: int
    outputs: list[OutputSummary]
    trainings: int
    promotions: list[Promotion]
    decay: Sequence[Decay]
    findings: list[str]
    failed: list[str]
    report: Path
    workspace: Path


def summarize(simulated: Simulated) -> Summary:
    """Return the summary of a simulation."""
    run, report = simulated.run, simulated.evening.report
    record, settled = report.record, report.record[report.record["settled_at"].notna()]
    scored = settled[settled["outcome"].notna()]
    return Summary(
        first=record["as_of"].min(),
        last=record["as_of"].max(),
        evenings=simulated.evenings,
        forecasts=len(record),
        settled=len(settled),
        challenger_rows=len(run.ledger.record(run.name, role="challenger")),
        outputs=[_summarize_output(run, scored, report.live_scores, each) for each in list_outputs(scored)],
        trainings=len(Registry(run.workspace.home, model_version).versions(run.name)),
        promotions=ChallengerBook(run.workspace.home).promotions(run.name),
        decay=report.decay,
        findings=summarize_findings(report.findings) if len(report.findings) else [],
        failed=simulated.failed,
        report=simulated.evening.paths.html,
        workspace=run.workspace.home,
    )


def _summarize_output(run: Run, scored: pd.DataFrame, scores: pd.DataFrame, output: Output) -> OutputSummary:
    rows, model = select_output(scored, output), run.config.model.name
    base_rate = rows.assign(model=BASE_RATE, p_up=rows["baseline_p_up"])
    verdict = judge(pd.concat([rows.assign(model=model), base_rate]), model=model, baseline=BASE_RATE)
    own = select_output(scores, output)
    own = own[(own["group"] == "late") & (own["model"] != BASE_RATE)]
    lines = {str(row["metric"]): row for row in own.to_dict("records")}
    return OutputSummary(
        output, [_describe_score(lines[name], name) for name in ("log_loss", "hit_rate")], verdict
    )


def _describe_score(row: Mapping[Hashable, Any], metric: str) -> str:
    interval = format_interval(row["low"], row["high"], metric, int(row["sessions"]))
    value, base = (format_score(row[name], metric) for name in ("value", "baseline_value"))
    return f"{metric.replace('_', ' ')} {value}, 95% interval {interval}, base rate {base}"
