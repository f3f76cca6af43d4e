"""Score the sealed record: the champions' rows, and those of the challengers that stand beside them."""

import pandas as pd

from flows.runtime.context import Run
from flows.runtime.progress import log_quietly
from pipeline.errors import NextdayError
from pipeline.evaluation.scores import score
from pipeline.evaluation.selective import select_issued
from pipeline.ledger.known_head import ledger_exists
from pipeline.outputs import list_outputs, select_output
from pipeline.report.evening_report import ChallengerRecord
from pipeline.schema import SCORES, empty
from pipeline.tracking.challengers import ChallengerBook

__all__ = ["list_challenger_records", "score_record"]

_CHALLENGER = "challenger"


def list_challenger_records(run: Run) -> list[ChallengerRecord]:
    """Return what the challengers of today have forecast; none where their list is damaged, which costs no report."""
    try:
        standing = ChallengerBook(run.workspace.home).challengers(run.name)
    except NextdayError as error:
        log_quietly(f"the challengers cannot be scored: {error}")
        return []
    versions = [each.model_version for each in standing]
    if not versions or not ledger_exists(run.workspace.ledger):
        return []
    sealed = run.ledger.record(run.name, role=_CHALLENGER, model_versions=versions)
    return [
        ChallengerRecord(str(version), rows, score_record(rows, _CHALLENGER))
        for version, rows in sealed.groupby("model_version")
    ]


def score_record(record: pd.DataFrame, name: str) -> pd.DataFrame:
    """Score the settled forecasts; the baseline is the base rate that each row was issued with."""
    settled = record[record["outcome"].notna()]
    parts = []
    for kind, rows in ((k, select_output(r, o)) for k, r in settled.groupby("kind") for o in list_outputs(r)):
        model = rows.assign(model=name)
        baseline = rows.assign(model="base_rate", p_up=rows["baseline_p_up"])
        both = pd.concat([model, baseline])
        parts.append(score(both, baseline="base_rate", group=str(kind)))
        if (rows["direction"] == "none").any():
            issued = select_issued(both, name)
            parts.append(score(issued, baseline="base_rate", group=f"{kind}, sides taken"))
    parts = [part for part in parts if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else empty(SCORES)
