"""latest.json and record.json: the newest forecasts, and the figures of the record for each output and role."""

from collections.abc import Iterator
from datetime import date, datetime
from typing import Literal, Self

import pandas as pd
from pydantic import Field

from pipeline.evaluation.verdict import BASE_RATE
from pipeline.monitoring.challenge import Standing
from pipeline.monitoring.decay import Decay
from pipeline.outputs import Output, list_outputs, select_output
from pipeline.report.documents.parts import (
    Day,
    Document,
    Moment,
    Number,
    Part,
    ScorePart,
    SealedForecast,
    VerdictPart,
    list_records,
)
from pipeline.report.evening_report import Report
from pipeline.schema import is_void

__all__ = ["Latest", "Record"]

_SIDES_TAKEN = ", sides taken"


class LatestForecast(SealedForecast):
    """A forecast of the newest session, with what its report says of it.

    `differs_from_base_rate` is false where the base rate lies within the band: such a forecast is no call.
    `last_call` says how the call before turned out; null without a direction or an outcome.
    """

    differs_from_base_rate: bool
    last_call: Literal["right", "wrong"] | None


class ModelPart(Part):
    """The model that made the forecasts; `age` is the number of sessions since its last training row."""

    model_version: str
    trained_through: date
    age: int
    promoted_at: Moment


class CoveragePart(Part):
    """How many of the constituents had a bar; `survivorship_bias` is empty where membership is known by session."""

    members: int
    covered: int
    survivorship_bias: str


class SkippedPart(Part):
    """A constituent without a forecast, and why."""

    symbol: str
    reason: str


class Latest(Document):
    """The newest sealed forecasts of a universe: what latest.csv holds, with the verdict on the method."""

    document: Literal["latest"] = "latest"
    universe: str
    calendar: str
    as_of: date
    target_session: date
    issued_at: datetime
    kind: Literal["live", "late"]
    late_because: str
    historical: bool
    data_version: int
    newest_observed_at: datetime
    config_digest: str
    ledger_head: str = Field(pattern="^[0-9a-f]{64}$")
    model: ModelPart
    coverage: CoveragePart
    verdicts: list[VerdictPart]
    forecasts: list[LatestForecast]
    skipped: list[SkippedPart]
    notes: list[str]

    @classmethod
    def read(cls, report: Report, rows: pd.DataFrame) -> Self:
        """Return the document of a report.

        Args:
            report: The report.
            rows: The rows of its forecast.csv, not yet formatted, with their role.
        """
        first = report.outputs[0]
        verdicts = {**({first: report.verdict} if report.verdict else {}), **report.further}
        named = {name: getattr(report, name) for name in _OF_THE_REPORT}
        return cls(
            **named,
            model=ModelPart(
                model_version=str(rows["model_version"].iloc[0]),
                trained_through=report.trained_through,
                age=report.model_age,
                promoted_at=report.promoted_at,
            ),
            coverage=CoveragePart(
                members=report.members, covered=report.covered, survivorship_bias=report.bias
            ),
            verdicts=[VerdictPart.read(verdict, output) for output, verdict in verdicts.items()],
            forecasts=[
                LatestForecast(**row | {"last_call": row["last_call"] or None})
                for row in list_records(rows, LatestForecast.model_fields)
            ],
            skipped=[SkippedPart(**row) for row in list_records(report.skipped, SkippedPart.model_fields)],
        )


_OF_THE_REPORT = (
    *("universe", "calendar", "as_of", "target_session", "issued_at", "kind", "late_because", "historical"),
    *("data_version", "newest_observed_at", "config_digest", "ledger_head", "notes"),
)


class FiguresPart(Part):
    """The record of one role, output and kind.

    `model_version` is a challenger's; the champion's figures are those of every champion so far, and it is null.
    A sealed row is settled, or settled without a label (unchanged, untraded), or void (its day turned out closed), or
    open. `scores` are those of the rows with a label, `scores_of_calls` of those among them with a direction; both are
    empty where nothing is settled, the second also where every row has a direction.
    """

    role: Literal["champion", "challenger"]
    model_version: str | None
    target: str
    horizon: int
    kind: Literal["live", "late"]
    first_as_of: date
    last_as_of: date
    sealed: int
    settled: int
    without_label: int
    void: int
    open: int
    scores: list[ScorePart]
    scores_of_calls: list[ScorePart]


class StandingPart(Part):
    """A challenger beside the champion: log loss saved per session with its 95% interval, and the evidence."""

    name: str
    model_version: str
    trained_through: date
    shadow_sessions: int
    held_out_sessions: int
    saved: Number
    low: Number
    high: Number
    evidence_of_better: float
    evidence_of_worse: float
    decision: str

    @classmethod
    def read(cls, standing: Standing) -> Self:
        """Return the part of a challenger's standing."""
        compared = standing.compared
        return cls(
            name=standing.name,
            model_version=standing.model_version,
            trained_through=standing.trained_through,
            shadow_sessions=compared.shadow,
            held_out_sessions=compared.held_out,
            saved=compared.saved,
            low=compared.low,
            high=compared.high,
            evidence_of_better=compared.better,
            evidence_of_worse=compared.worse,
            decision=standing.decision.sentence,
        )


class AlarmPart(Part):
    """What the decay alarm says of one output: its state, the live sessions, and the evidence (1 is none)."""

    target: str
    horizon: int
    state: str
    sessions: int
    evidence: float
    since: Day
    saved: Number
    floor: Number

    @classmethod
    def read(cls, decay: Decay) -> Self:
        """Return the part of a decay."""
        named = {name: getattr(decay, name) for name in ("state", "sessions", "evidence", "since")}
        return cls(**decay.output._asdict(), **named, saved=decay.saved, floor=decay.floor)


class Record(Document):
    """The figures of a universe's sealed record; live, late, champion and challenger are never mixed."""

    document: Literal["record"] = "record"
    universe: str
    calendar: str
    as_of: date
    ledger_head: str = Field(pattern="^[0-9a-f]{64}$")
    figures: list[FiguresPart]
    challengers: list[StandingPart]
    alarm: list[AlarmPart]
    corrections: int

    @classmethod
    def read(cls, report: Report) -> Self:
        """Return the document of a report."""
        figures = [*_list_figures("champion", None, report.record, report.live_scores)]
        for each in report.challenger_records:
            figures += _list_figures("challenger", each.model_version, each.rows, each.scores)
        return cls(
            universe=report.universe,
            calendar=report.calendar,
            as_of=report.as_of,
            ledger_head=report.ledger_head,
            figures=figures,
            challengers=[StandingPart.read(standing) for standing in report.challengers],
            alarm=[AlarmPart.read(decay) for decay in report.decay],
            corrections=len(report.corrections),
        )


def _list_figures(
    role: Literal["champion", "challenger"], version: str | None, rows: pd.DataFrame, scores: pd.DataFrame
) -> Iterator[FiguresPart]:
    """Yield the figures of a role, live before late, output by output."""
    own = scores[scores["model"] != BASE_RATE]
    for kind in ("live", "late"):
        of_kind = rows[rows["kind"] == kind]
        for output in list_outputs(of_kind):
            yield _make_figures(role, version, kind, output, select_output(of_kind, output), own)


def _make_figures(
    role: Literal["champion", "challenger"],
    version: str | None,
    kind: Literal["live", "late"],
    output: Output,
    rows: pd.DataFrame,
    scores: pd.DataFrame,
) -> FiguresPart:
    is_settled, has_label, voided = rows["settled_at"].notna(), rows["outcome"].notna(), is_void(rows)
    of_output = select_output(scores, output)
    return FiguresPart(
        role=role,
        model_version=version,
        target=output.target,
        horizon=output.horizon,
        kind=kind,
        first_as_of=rows["as_of"].min(),
        last_as_of=rows["as_of"].max(),
        sealed=len(rows),
        settled=int((is_settled & has_label).sum()),
        without_label=int((is_settled & ~has_label & ~voided).sum()),
        void=int(voided.sum()),
        open=int((~is_settled).sum()),
        scores=ScorePart.read(of_output[of_output["group"] == kind]),
        scores_of_calls=ScorePart.read(of_output[of_output["group"] == kind + _SIDES_TAKEN]),
    )
