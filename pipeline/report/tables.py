"""Rows of short texts for page, terminal and Prefect."""

from typing import Final

import pandas as pd

from pipeline.evaluation.horizons import NEXT, list_horizons, name_group
from pipeline.evaluation.selective import ISSUED_SHARE
from pipeline.formatting import format_interval, format_p_value, format_percent, format_price, format_score
from pipeline.report.evening_report import Report
from pipeline.report.horizon_tables import forecast_cells, sort_by_distance
from pipeline.schema import DIRECTIONS

__all__ = [
    "FURTHER_METRICS",
    "METRIC_CAPTIONS",
    "collect_scores",
    "count_directions",
    "describe_group",
    "forecast_rows",
    "list_forecasts",
    "name_model",
    "score_rows",
    "select_first_read",
    "select_own_scores",
]


def count_directions(forecasts: pd.DataFrame) -> str:
    """Say how often each direction is told, as "12 up, 8 down, 10 none"; what never is, is left out."""
    counts = forecasts["direction"].value_counts()
    return ", ".join(f"{counts[side]:,} {side}" for side in DIRECTIONS if counts.get(side))


METRIC_CAPTIONS: Final = {
    ISSUED_SHARE: (
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
"""The name of each metric and what it measures, for readers; the key is its stored name."""
FURTHER_METRICS: Final = tuple(METRIC_CAPTIONS)[list(METRIC_CAPTIONS).index("auc") + 1 :]
"""What the short tables leave out; scores.csv has every metric."""
_GROUPS: Final = {
    "all": "backtest, all test rows",
    "live": "live record",
    "late": "late rows of the record",
}


def describe_group(group: str, horizon: int = NEXT) -> str:
    """Describe the rows that a group of scores was measured on."""
    name = name_group(group, horizon)
    kind, _, rest = name.partition(", ")
    if kind in _GROUPS:
        return f"{_GROUPS[kind]}, {rest}" if rest else _GROUPS[kind]
    return f"backtest, {name}"


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
    """Return the model's own scores of the short tables, by group, horizon and metric: the backtest, live, late."""
    scores = select_first_read(collect_scores(report))
    own = scores[scores["model"] == name_model(report)]
    live = own[own["group"].str.startswith("live")]
    order = list(dict.fromkeys([*_group_keys(report.scores), *_group_keys(live), *_group_keys(own)]))
    metrics = list(dict.fromkeys([*METRIC_CAPTIONS, *own["metric"]]))
    placed = own.assign(
        _group=[order.index(key) for key in _group_keys(own)], _metric=own["metric"].map(metrics.index)
    )
    return placed.sort_values(["_group", "_metric"]).drop(columns=["_group", "_metric"])


def _group_keys(scores: pd.DataFrame) -> list[tuple[str, int]]:
    """Return the group and the horizon of each score."""
    return list(zip(scores["group"], scores["horizon"].astype(int), strict=True))


def select_first_read(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the scores that short tables have room for."""
    return scores[~scores["metric"].isin(FURTHER_METRICS)]


def name_model(report: Report) -> str:
    """Return what the scores call the model; empty where nothing was scored."""
    return report.verdict.model if report.verdict else ""


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
            "rows": name_group(row["group"], row["horizon"]),
            "score": METRIC_CAPTIONS.get(row["metric"], (row["metric"],))[0],
            "value": format_score(row["value"], row["metric"]),
            "95% interval": format_interval(
                row["low"], row["high"], row["metric"], row["sessions"], row["horizon"]
            ),
            "n": f"{row['n']:,}",
            "sessions": f"{row['sessions']:,}",
            "best baseline": f"{format_score(row['baseline_value'], row['metric'])} {row['baseline']}",
            "p": format_p_value(row["p_value"]),
        }
        for row in select_first_read(scores).to_dict("records")
    ]
