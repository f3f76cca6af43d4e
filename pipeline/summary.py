"""What one evening came to: the tables and sentences that every report is made of."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from pipeline.horizons import (
    forecast_cells,
    horizon_of,
    list_horizons,
    select_horizon,
    sort_by_distance,
)
from pipeline.insight import Insight
from pipeline.scores import Verdict
from pipeline.sides import SIDES_TAKEN
from pipeline.wording import (
    count,
    describe_lead,
    format_day,
    format_interval,
    format_moment,
    format_p_value,
    format_percent,
    format_price,
    format_score,
)

__all__ = [
    "FURTHER_METRICS",
    "METRICS",
    "OLD_MODEL",
    "ROLLING",
    "Fact",
    "Report",
    "collect_key_facts",
    "collect_scores",
    "describe_group",
    "forecast_rows",
    "list_forecasts",
    "name_model",
    "roll_hit_rate",
    "score_rows",
    "select_first_read",
    "select_own_scores",
    "select_record",
]

ROLLING: Final = 60
"""Sessions of a rolling hit rate: about a quarter, enough for an interval, short enough to see a change."""

OLD_MODEL: Final = 63
"""Sessions, a quarter of a year: a weekly retrain that has failed twelve times should be noticed."""

METRICS: Final = {
    SIDES_TAKEN: (
        "sides taken",
        "share of forecasts that took a side, up or down; beside it what was asked for",
    ),
    "hit_rate": ("hit rate", "share of forecasts on the right side of 50%; higher is better"),
    "log_loss": ("log loss", "surprise at what happened, in nats; lower is better, a fair coin has 0.693"),
    "brier": ("Brier score", "mean squared error of the probability; lower is better, a fair coin has 0.25"),
    "brier_skill": ("Brier skill", "share of the baseline's Brier score that is saved; above 0 is better"),
    "mcc": ("MCC", "correlation of forecast and actual direction; 0 is chance"),
    "auc": ("AUC", "chance that an up had the higher forecast than a down; 0.5 is chance"),
    "auc_within_sessions": (
        "AUC within sessions",
        "the same among stocks of one session: telling stocks apart; 0.5 is chance",
    ),
    "auc_between_sessions": (
        "AUC between sessions",
        "chance that a session in which most stocks rose had the higher mean forecast than one in which most fell: "
        "timing; 0.5 is chance",
    ),
    "balanced_accuracy": (
        "balanced accuracy",
        "mean of the hit rates among ups and among downs; 50% is chance",
    ),
    "ece": (
        "calibration error",
        "mean distance of what was said from what happened, in ten groups; lower is better",
    ),
    "miscalibration": ("miscalibration", "part of the Brier score that recalibration would save; 0 is best"),
    "discrimination": (
        "discrimination",
        "part of the Brier score that telling ups from downs saves; higher is better",
    ),
    "uncertainty": ("uncertainty", "Brier score of the rows' own share of ups: how hard they are"),
}
"""How each metric is called, and what it says."""

FURTHER_METRICS: Final = tuple(METRICS)[list(METRICS).index("auc") + 1 :]
"""What the short tables leave out; scores.csv has every metric."""

_GROUPS: Final = {
    "all": "backtest, all test rows",
    "live": "live record",
    "late": "late rows of the record",
}


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that the report of one evening says.

    Attributes:
        universe: Its name.
        calendar: The exchange.
        as_of: The session whose close the forecasts stand on.
        target_session: The next session: what they speak of, the nearest of them where they look farther too.
        issued_at: When they were issued (UTC).
        kind: live, or late: issued after the target session's open.
        historical: Whether the source ended in the past.
        forecasts: schema.FORECASTS and is_new, of the target session.
        skipped: symbol, reason of the members without a forecast.
        members: How many symbols the universe has at as_of.
        covered: How many of them have a bar there.
        bias: Of survivorship, where membership is today's list rather than that of each session; else empty.
        verdict: Of the backtest on the next session, None where nothing was scored.
        scores: schema.SCORES of the backtest.
        test_rows: model, symbol, as_of, target_session, horizon, p_up, direction, outcome of the backtest.
        live_scores: schema.SCORES of the settled record, one group a kind and horizon; may be empty.
        record: schema.FORECASTS, outcome, realized_return, settled_at of the ledger.
        corrections: schema.OUTCOMES that came after the first, first_outcome, first_return.
        epochs: fit ("score" or "champion"), member, epoch, loss, hit_rate, stop_loss, stop_hit_rate, gradient_norm.
        ranges: How history was cut: fit, part, first_session, last_session, sessions, rows.
        findings: symbol, session, rule, detail of the price checks.
        model: What there is to know of the model, name by name.
        trained_through: The last session that the model learned from.
        model_age: Sessions from there to as_of.
        promoted_at: When the model became champion (UTC); None if it is not known.
        data_version: The price store's version.
        newest_observed_at: When the newest bar was observed (UTC).
        sessions_behind: Sessions that had closed after as_of when the forecasts were issued.
        config_digest: Digest of the settings.
        ledger_head: The ledger's head hash.
        notes: Remarks in plain words.
        tried: How many settings were tried on the universe when the forecasts were issued, in words.
        further: The verdicts on the farther horizons, by horizon.
        insight: What the network of the scoring fit looks at; None where that is not kept.
        attributions: What moved the forecasts, columns of attributions.csv; empty where that is not kept.
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
    further: Mapping[int, Verdict] = field(default_factory=dict)
    insight: Insight | None = None
    attributions: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def horizons(self) -> list[int]:
        """How many sessions ahead the forecasts look, the nearest first."""
        return list_horizons(self.forecasts)


@dataclass(frozen=True)
class Fact:
    """What a reader should know before the numbers: of the prices, the model, the record or the ledger.

    Attributes:
        name: What it is about.
        text: The fact in a few words.
        more: The rest of it.
        command: What to type to check it; may be empty.
        warning: What is wrong and the way out; may be empty.
    """

    name: str
    text: str
    more: str
    command: str = ""
    warning: str = ""


def collect_key_facts(report: Report) -> list[Fact]:
    """Return how fresh the prices are, how old the model, how long the record, and the ledger's head."""
    return [_prices(report), _model(report), _record(report), _ledger(report)]


def _prices(report: Report) -> Fact:
    behind = (
        "the source ends there" if report.historical else f"{count(report.sessions_behind, 'session')} behind"
    )
    observed = describe_lead(report.issued_at, report.newest_observed_at)
    return Fact(
        "prices",
        f"reach {format_day(report.as_of)}",
        f"observed {observed} the forecasts were issued; {behind}; "
        f"{report.covered:,} of {report.members:,} members have a bar"
        + (f"; {report.bias}" if report.bias else ""),
    )


def _model(report: Report) -> Fact:
    promoted = f", promoted {format_moment(report.promoted_at)}" if report.promoted_at else ""
    version = report.model.get("version", "unknown")
    return Fact(
        "model",
        f"{count(report.model_age, 'session')} old",
        f"{version}, trained through {format_day(report.trained_through)}{promoted}",
        warning=f"older than {OLD_MODEL} sessions: nextday retrain" if report.model_age > OLD_MODEL else "",
    )


def _record(report: Report) -> Fact:
    settled = int(report.record["outcome"].notna().sum())
    counts = f"{len(report.record):,} sealed, {f'{settled:,}' if settled else 'none'} settled"
    return Fact("record", counts, _hit_rate(report) or "no outcome to score yet")


def _hit_rate(report: Report) -> str:
    """Return the next session's hit rate of the live rows, or while there is none of the late ones."""
    scores = report.live_scores
    own = scores[(scores["metric"] == "hit_rate") & (scores["model"] != scores["baseline"])]
    of_what = " of the next session" if len(report.horizons) > 1 else ""
    whole = own[own["group"].isin(["live", "late"])].sort_values("group", ascending=False)
    for row in whole.head(1).to_dict("records"):
        sides = own[own["group"] == f"{row['group']}, sides taken"].head(1).to_dict("records")
        told = "".join(f"; where a side was taken {_describe_rate(side)}" for side in sides)
        return f"{row['group']} hit rate{of_what} {_describe_rate(row)}{told}"
    return ""


def _describe_rate(row: dict[Hashable, Any]) -> str:
    interval = format_interval(row["low"], row["high"], "hit_rate", row["sessions"])
    return (
        f"{format_percent(row['value'])}, 95% interval {interval}, n {row['n']:,} over "
        f"{count(row['sessions'], 'session')}; {row['baseline']} {format_percent(row['baseline_value'])}"
    )


def _ledger(report: Report) -> Fact:
    head = report.ledger_head
    return Fact(
        "ledger",
        f"head {head[:12]}…",
        "proof that nothing sealed was changed:",
        command=f"nextday ledger verify --head {head}",
    )


def describe_group(group: str) -> str:
    """Say which rows a group of scores was measured on."""
    kind, _, ahead = group.partition(", ")
    if kind in _GROUPS:
        return f"{_GROUPS[kind]}, {ahead}" if ahead else _GROUPS[kind]
    return f"backtest, {group}"


def forecast_rows(report: Report) -> list[dict[str, str]]:
    """Return the forecasts as rows of short texts, by symbol."""
    rows = list_forecasts(report.forecasts)
    return sorted(
        ({name: str(cell) for name, cell in row.items()} for row in rows), key=lambda row: row["symbol"]
    )


def collect_scores(report: Report) -> pd.DataFrame:
    """Return the scores of the backtest, then those of the record (schema.SCORES)."""
    parts = [scores for scores in (report.scores, report.live_scores) if len(scores)]
    return pd.concat(parts, ignore_index=True) if parts else report.scores


def select_own_scores(report: Report) -> pd.DataFrame:
    """Return the model's own scores that are read first: the backtest's groups, live, late, with the baseline."""
    scores = select_first_read(collect_scores(report))
    own = scores[scores["model"] == name_model(report)]
    live = own.loc[own["group"].str.startswith("live"), "group"]
    order = {
        name: pd.Categorical(own[name], list(dict.fromkeys([*first, *own[name]])))
        for name, first in (("group", [*report.scores["group"], *live]), ("metric", METRICS))
    }
    return own.assign(**order).sort_values(["group", "metric"]).astype({"group": str, "metric": str})


def select_first_read(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the scores that short tables have room for."""
    return scores[~scores["metric"].isin(FURTHER_METRICS)]


def name_model(report: Report) -> str:
    """Return what the scores call the model; empty where nothing was scored."""
    return report.verdict.model if report.verdict else ""


def roll_hit_rate(rows: pd.DataFrame, baseline: pd.DataFrame) -> pd.DataFrame:
    """Return the hit rate of the last ROLLING sessions with an interval that keeps each session whole.

    The interval is that of a ratio of session sums (Cochran 1977, Sampling Techniques, section 6.4), sessions
    taken as independent: rate -+ 1.96 sqrt(W / (W - 1) sum (hits - rate n)^2) / sum n.
    """
    hits, n = _hits_by_session(rows)
    sums = pd.DataFrame({"h": hits, "n": n, "hh": hits**2, "hn": hits * n, "nn": n**2}).rolling(ROLLING).sum()
    rate = sums["h"] / sums["n"]
    spread = (sums["hh"] - 2 * rate * sums["hn"] + rate**2 * sums["nn"]).clip(lower=0)
    half = 1.96 * np.sqrt(spread * ROLLING / (ROLLING - 1)) / sums["n"]
    base_hits, base_n = (counts.rolling(ROLLING).sum() for counts in _hits_by_session(baseline))
    table = pd.DataFrame(
        {"rate": rate, "low": rate - half, "high": rate + half, "baseline_rate": base_hits / base_n}
    ).reindex(rate.index)
    return table.dropna(subset="rate").rename_axis("session").reset_index()


def _hits_by_session(rows: pd.DataFrame) -> tuple["pd.Series[float]", "pd.Series[float]"]:
    told = rows[rows["p_up"] != 0.5]
    hits = ((told["p_up"] > 0.5) == (told["outcome"] == 1)).astype(float).groupby(told["target_session"])
    return hits.sum(), hits.count().astype(float)


def select_record(record: pd.DataFrame) -> pd.DataFrame:
    """Return the settled rows that the record is drawn by: the live ones, or while there is none the late ones.

    Only those of the next session: farther ones overlap, and stand in the tables of scores.
    """
    settled = select_horizon(record[record["outcome"].notna()])
    live = settled[settled["kind"] == "live"]
    return live if len(live) else settled


def list_forecasts(forecasts: pd.DataFrame) -> list[dict[str, str]]:
    """Return one row a symbol, the farthest from the base rate first."""
    if len(list_horizons(forecasts)) > 1:
        return forecast_cells(forecasts)
    return [
        {
            "symbol": row["symbol"],
            "direction": row["direction"],
            "P(up)": format_percent(row["p_up"]),
            "band": f"{format_percent(row['low'])} to {format_percent(row['high'])}",
            "base rate": format_percent(row["baseline_p_up"]),
            "last close": format_price(row["last_close"]),
            "kind": row["kind"],
        }
        for row in sort_by_distance(forecasts).to_dict("records")
    ]


def score_rows(scores: pd.DataFrame) -> list[dict[str, str]]:
    """Return the scores (schema.SCORES) that are read first as rows of short texts."""
    return [
        {
            "rows": row["group"],
            "score": METRICS.get(row["metric"], (row["metric"],))[0],
            "value": format_score(row["value"], row["metric"]),
            "95% interval": format_interval(
                row["low"], row["high"], row["metric"], row["sessions"], horizon_of(row["group"])
            ),
            "n": f"{row['n']:,}",
            "sessions": f"{row['sessions']:,}",
            "best baseline": f"{format_score(row['baseline_value'], row['metric'])} {row['baseline']}",
            "p": format_p_value(row["p_value"]),
        }
        for row in select_first_read(scores).to_dict("records")
    ]
