"""The data of one nightly report, from which the page, the Markdown, the CSV and the terminal output are made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Literal

import pandas as pd

from pipeline.evaluation.network_insight import Insight
from pipeline.evaluation.selective import ISSUED_SHARE, describe_base_rate
from pipeline.evaluation.verdict import Verdict
from pipeline.monitoring.challenge import Standing
from pipeline.monitoring.decay import Decay
from pipeline.outputs import Output, list_outputs, select_main

__all__ = ["ChallengerRecord", "Report"]


@dataclass(frozen=True, eq=False)
class ChallengerRecord:
    """The sealed forecasts of a challenger, and their scores: as `record` and `live_scores` of the report."""

    model_version: str
    rows: pd.DataFrame
    scores: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that the report of one nightly run shows.

    Attributes:
        universe: Its name.
        calendar: The exchange.
        as_of: The session from whose close the forecasts are made.
        target_session: The next session: the target of the forecasts, the nearest one where there are several.
        issued_at: When they were issued (UTC).
        kind: live, or late: issued after the target session's open; that of most of the forecasts.
        historical: Whether the source ended in the past.
        forecasts: schema.FORECASTS and is_new, of the target session.
        skipped: symbol, reason; the members without a forecast.
        members: How many symbols the universe has at as_of.
        covered: How many of them have a bar at as_of.
        bias: The survivorship bias, where membership is today's list and not that of each session; else empty.
        verdict: The verdict on the next session, from the test rows; None where nothing was scored.
        scores: schema.SCORES of the backtest.
        test_rows: model, symbol, as_of, target_session, horizon, target, p_up, direction, outcome of the backtest.
        live_scores: schema.SCORES of the settled record, one group per kind and output; may be empty.
        record: schema.FORECASTS, outcome, realized_return, settled_at, void_reason of the ledger.
        corrections: schema.OUTCOMES that revise an earlier one, with first_outcome, first_return.
        epochs: fit ("score" or "champion"), member, epoch, loss, hit_rate, stop_loss, stop_hit_rate, gradient_norm.
        ranges: The splits of history: fit, part, first_session, last_session, sessions, rows.
        findings: symbol, session, rule, detail; the findings of the price checks.
        model: The model card: text by name.
        trained_through: The last session that the model was trained on.
        model_age: Sessions from there to as_of.
        promoted_at: When the model became champion (UTC); None if it is not known.
        data_version: The price store's version.
        newest_observed_at: When the newest bar was observed (UTC).
        sessions_behind: Sessions that had closed after as_of when the forecasts were issued.
        config_digest: Digest of the settings.
        ledger_head: The ledger's head hash.
        notes: Remarks, one sentence each.
        tried: A sentence on how many settings had been tried on the universe when the forecasts were issued.
        further: The verdicts on the further outputs.
        insight: Diagnostics of the network of the scoring fit; None where they were not kept.
        attributions: Feature attributions of the forecasts, columns of attributions.csv; empty where none were kept.
        late_because: Why these forecasts are late, or how many of them and why, in a phrase; empty where all are live.
        last_calls: How the forecasts of the session that has just closed turned out: symbol, target_session,
            direction, call (right, wrong or empty), realized_return, is_settled; empty where there were none.
        challengers: The models that forecast beside the champion, and where they stand.
        challenger_records: What they have forecast so far.
        figures: The figures of the evaluation that were stored with it: SVG by name. Others are drawn.
        decay: What the decay alarm says of each output's live record; empty for a historical source.
        drift: Whether the inputs have drifted, in a sentence; empty where there is nothing to explain.
    """

    universe: str
    calendar: str
    as_of: pd.Timestamp
    target_session: pd.Timestamp
    issued_at: datetime
    kind: Literal["live", "late"]
    historical: bool
    forecasts: pd.DataFrame
    skipped: pd.DataFrame
    members: int
    covered: int
    bias: str
    verdict: Verdict | None
    scores: pd.DataFrame
    test_rows: pd.DataFrame
    live_scores: pd.DataFrame
    record: pd.DataFrame
    corrections: pd.DataFrame
    epochs: pd.DataFrame
    ranges: pd.DataFrame
    findings: pd.DataFrame
    model: Mapping[str, str]
    trained_through: pd.Timestamp
    model_age: int
    promoted_at: datetime | None
    data_version: int
    newest_observed_at: datetime
    sessions_behind: int
    config_digest: str
    ledger_head: str
    notes: list[str]
    tried: str = ""
    further: Mapping[Output, Verdict] = field(default_factory=dict)
    insight: Insight | None = None
    attributions: pd.DataFrame = field(default_factory=pd.DataFrame)
    figures: Mapping[str, str] = field(default_factory=dict)
    late_because: str = ""
    last_calls: pd.DataFrame = field(default_factory=pd.DataFrame)
    challengers: Sequence[Standing] = ()
    challenger_records: Sequence[ChallengerRecord] = ()
    decay: Sequence[Decay] = ()
    drift: str = ""

    @property
    def kind_and_cause(self) -> str:
        """The kind, and in brackets why the forecasts are late."""
        return f"{self.kind} ({self.late_because})" if self.late_because else self.kind

    @cached_property
    def last_call(self) -> dict[str, str]:
        """Whether the last call of each symbol was right: "right", "wrong" or ""."""
        calls = self.last_calls
        return {} if calls.empty else dict(zip(calls["symbol"], calls["call"], strict=True))

    @property
    def beside_base_rate(self) -> str:
        """How the forecasts of the first output compare with their base rates; empty where they differ from them."""
        abstains = bool((self.scores["metric"] == ISSUED_SHARE).any())
        return describe_base_rate(select_main(self.forecasts), abstains=abstains)

    @property
    def outputs(self) -> list[Output]:
        """What is forecast, in the order of tables."""
        return list_outputs(self.forecasts)
