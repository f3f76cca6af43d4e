"""What one evening came to, and its short form: the tables and sentences that every report is made of."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

import numpy as np
import pandas as pd

from pipeline.scores import Verdict
from pipeline.significance import MIN_SESSIONS

__all__ = [
    "METRICS",
    "ROLLING",
    "Report",
    "collect_scores",
    "forecast_rows",
    "format_day",
    "format_instant",
    "format_interval",
    "format_p_value",
    "format_percent",
    "format_price",
    "format_score",
    "name_model",
    "roll_hit_rate",
    "score_rows",
    "select_own_scores",
    "sort_by_distance",
    "summary_markdown",
]

ROLLING: Final = 60
"""Sessions of a rolling hit rate: about a quarter, enough for an interval, short enough to see a change."""

METRICS: Final = {
    "hit_rate": ("hit rate", "share of forecasts on the right side of 50%; higher is better"),
    "log_loss": ("log loss", "surprise at what happened, in nats; lower is better, a fair coin has 0.693"),
    "brier": ("Brier score", "mean squared error of the probability; lower is better, a fair coin has 0.25"),
    "brier_skill": ("Brier skill", "share of the baseline's Brier score that is saved; above 0 is better"),
    "mcc": ("MCC", "correlation of forecast and actual direction; 0 is chance"),
    "auc": ("AUC", "chance that an up had the higher forecast than a down; 0.5 is chance"),
}
"""How each metric is called, and what it says."""

_FEW: Final = 20  # rows of a summary that a person reads without scrolling


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that the report of one evening says.

    Attributes:
        universe: Its name.
        calendar: The exchange.
        as_of: The session whose close the forecasts stand on.
        target_session: The session they speak of.
        issued_at: When they were issued (UTC).
        kind: live, or late: issued after the target session's open.
        historical: Whether the source ended in the past.
        forecasts: schema.FORECASTS and is_new, of the target session.
        skipped: symbol, reason of the members without a forecast.
        members: How many symbols the universe has at as_of.
        covered: How many of them have a bar there.
        survivorship_biased: Whether membership is today's list rather than that of each session.
        verdict: Of the backtest, None where nothing was scored.
        scores: schema.SCORES of the backtest.
        test_rows: model, symbol, as_of, target_session, p_up, outcome of the backtest.
        live_scores: schema.SCORES of the settled record, one group a kind; may be empty.
        record: schema.FORECASTS, outcome, realized_return, settled_at of the ledger.
        epochs: fit ("score" or "champion"), member, epoch, loss, hit_rate, stop_loss, stop_hit_rate, gradient_norm.
        ranges: How history was cut: fit, part, first_session, last_session, sessions, rows.
        findings: symbol, session, rule, detail of the price checks.
        model: What there is to know of the model, name by name.
        data_version: The price store's version.
        newest_observed_at: When the newest bar was observed (UTC).
        config_digest: Digest of the settings.
        ledger_head: The ledger's head hash.
        notes: Remarks in plain words.
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
    survivorship_biased: bool
    verdict: Verdict | None
    scores: pd.DataFrame
    test_rows: pd.DataFrame
    live_scores: pd.DataFrame
    record: pd.DataFrame
    epochs: pd.DataFrame
    ranges: pd.DataFrame
    findings: pd.DataFrame
    model: Mapping[str, str]
    data_version: int
    newest_observed_at: datetime
    config_digest: str
    ledger_head: str
    notes: list[str]


def summary_markdown(report: Report) -> str:
    """Return the evening in Markdown: the verdict, the forecasts farthest from the base rate, scores, versions."""
    shown = sort_by_distance(report.forecasts).head(_FEW)
    left_out = len(report.forecasts) - len(shown)
    lines = [
        f"# {report.universe}: {report.target_session:%A %Y-%m-%d}",
        "",
        f"**{_cell(report.verdict.sentence)}**" if report.verdict else "No procedure was scored yet.",
        "",
        f"{len(report.forecasts)} forecasts from the close of {report.as_of:%Y-%m-%d}, kind {report.kind}, "
        f"issued {format_instant(report.issued_at)}. {report.covered} of {report.members} members have a bar.",
        "",
        *_markdown_table(_forecast_cells(shown)),
        *(
            ["", f"The {len(shown)} farthest from the base rate; {left_out} more in forecast.csv."]
            if left_out
            else []
        ),
        "",
        "## Scores",
        "",
        *(_markdown_table(score_rows(select_own_scores(report))) or ["There is no score yet."]),
        "",
        f"Model {_cell(report.model.get('version', 'unknown'))} (age {_cell(report.model.get('age', 'unknown'))}), "
        f"data version {report.data_version}, newest bar observed {format_instant(report.newest_observed_at)}.",
        "",
        f"Ledger head `{report.ledger_head}`",
        "",
    ]
    return "\n".join(lines)


def forecast_rows(report: Report) -> list[dict[str, str]]:
    """Return the forecasts as rows of short texts, by symbol."""
    return [
        {name: str(cell) for name, cell in row.items()}
        for row in _forecast_cells(report.forecasts.sort_values("symbol"))
    ]


def collect_scores(report: Report) -> pd.DataFrame:
    """Return the scores of the backtest, then those of the record (schema.SCORES)."""
    parts = [scores for scores in (report.scores, report.live_scores) if len(scores)]
    return pd.concat(parts, ignore_index=True) if parts else report.scores


def select_own_scores(report: Report) -> pd.DataFrame:
    """Return the model's own scores, group by group, each with its baseline's value beside it."""
    scores = collect_scores(report)
    own = scores[scores["model"] == name_model(report)]
    order = list(dict.fromkeys([*METRICS, *own["metric"]]))
    return (
        own.assign(metric=pd.Categorical(own["metric"], order))
        .sort_values(["group", "metric"])
        .astype({"metric": str})
    )


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


def sort_by_distance(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Return the forecasts, the farthest from the base rate first."""
    distance = (forecasts["p_up"] - forecasts["baseline_p_up"]).abs()
    return forecasts.assign(_distance=distance).sort_values(["_distance", "symbol"], ascending=[False, True])


def _forecast_cells(forecasts: pd.DataFrame) -> list[dict[str, str]]:
    return [
        {
            "symbol": row["symbol"],
            "direction": row["direction"],
            "p up": format_percent(row["p_up"]),
            "band": f"{format_percent(row['low'])} to {format_percent(row['high'])}",
            "base rate": format_percent(row["baseline_p_up"]),
            "last close": format_price(row["last_close"]),
            "kind": row["kind"],
        }
        for row in forecasts.to_dict("records")
    ]


def score_rows(scores: pd.DataFrame) -> list[dict[str, str]]:
    """Return scores (schema.SCORES) as rows of short texts."""
    return [
        {
            "rows": row["group"],
            "score": METRICS.get(row["metric"], (row["metric"],))[0],
            "value": format_score(row["value"], row["metric"]),
            "95% interval": format_interval(row["low"], row["high"], row["metric"], row["sessions"]),
            "n": f"{row['n']:,}",
            "sessions": f"{row['sessions']:,}",
            "best baseline": f"{format_score(row['baseline_value'], row['metric'])} {row['baseline']}",
            "p": format_p_value(row["p_value"]),
        }
        for row in scores.to_dict("records")
    ]


def _markdown_table(rows: list[dict[str, str]]) -> list[str]:
    if not rows:
        return []
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return [f"| {' | '.join(map(_cell, line))} |" for line in lines]


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def format_percent(value: float) -> str:
    """Write a share as a percentage with one decimal."""
    return "–" if math.isnan(value) else f"{value:z.1%}"


def format_p_value(value: float) -> str:
    """Write a p-value with three decimals; one below them is not called zero."""
    return "–" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def format_score(value: float, metric: str) -> str:
    """Write a score the way its metric is read; NaN is a dash."""
    if metric == "hit_rate":
        return format_percent(value)
    return "–" if math.isnan(value) else f"{value:z.4f}"


def format_interval(low: float, high: float, metric: str, sessions: int) -> str:
    """Write an interval; a dash and the reason where it has none."""
    if math.isnan(low) or math.isnan(high):
        return f"– (under {MIN_SESSIONS} sessions)" if sessions < MIN_SESSIONS else "– (not defined)"
    return f"{format_score(low, metric)} to {format_score(high, metric)}"


def format_price(value: float) -> str:
    """Write a price with two decimals, a small one with four digits."""
    return f"{value:,.2f}" if value >= 1 else f"{value:.4g}"


def format_day(session: pd.Timestamp) -> str:
    """Write a session with its weekday."""
    return f"{session:%a %Y-%m-%d}"


def format_instant(when: datetime) -> str:
    """Write an instant in ISO 8601, UTC, to the second."""
    return f"{when.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
