"""Tables of forecasts and scores, as texts for the page, the terminal and Prefect."""

from collections.abc import Iterable
from typing import Final

import pandas as pd

from pipeline.evaluation.selective import ISSUED_SHARE
from pipeline.formatting import (
    count,
    format_effective_n,
    format_interval,
    format_p_value,
    format_percent,
    format_price,
    format_score,
)
from pipeline.outputs import MAIN, Output, list_outputs, name_group
from pipeline.report.evening_report import Report
from pipeline.report.output_tables import WHOLE, forecast_cells, format_base_rate, sort_by_distance
from pipeline.schema import DIRECTIONS, is_void

__all__ = [
    "FURTHER_METRICS",
    "METRIC_CAPTIONS",
    "collect_scores",
    "count_directions",
    "describe_added",
    "describe_group",
    "describe_void",
    "forecast_rows",
    "group_scores",
    "list_forecasts",
    "name_model",
    "score_rows",
    "select_headline_scores",
    "select_own_scores",
]


def count_directions(forecasts: pd.DataFrame) -> str:
    """Return how often each direction is issued, as "12 up, 8 down, 10 none"; those that never occur are left out."""
    counts = forecasts["direction"].value_counts()
    return ", ".join(f"{counts[name]:,} {name}" for name in DIRECTIONS if counts.get(name))


def describe_void(record: pd.DataFrame) -> str:
    """Return how many forecasts of a record are void and why, without a full stop; empty where none is."""
    void = record[is_void(record)]
    if void.empty:
        return ""
    reasons = "; ".join(sorted({*void["void_reason"]}))
    return f"{count(len(void), 'forecast')} {'is' if len(void) == 1 else 'are'} void: {reasons}"


def describe_added(record: pd.DataFrame) -> str:
    """Return which late rows of a record were sealed after the others of their session; empty where none was."""
    is_added = record["issued_at"] > record.groupby("as_of")["issued_at"].transform("min")
    added = record[is_added & (record["kind"] == "late")]
    if added.empty:
        return ""
    parts = [f"{_name_some(rows['symbol'])} from {as_of:%Y-%m-%d}" for as_of, rows in added.groupby("as_of")]
    return (
        f"{count(len(added), 'forecast')} {'was' if len(added) == 1 else 'were'} sealed as late after the others of "
        f"the session: {'; '.join(parts)}"
    )


def _name_some(symbols: Iterable[str]) -> str:
    names = [*dict.fromkeys(symbols)]
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")


_NAMED: Final = 8
"""Symbols in a sentence."""

METRIC_CAPTIONS: Final = {
    ISSUED_SHARE: (
        "directions issued",
        "share of forecasts that issued a direction, up or down; its baseline is the target share",
    ),
    "hit_rate": ("hit rate", "share of forecasts on the correct side of 50%; higher is better"),
    "log_loss": (
        "log loss",
        "mean negative log-likelihood of the outcomes; lower is better, a fair coin has 0.693 nats",
    ),
    "brier": ("Brier score", "mean squared error of the probability; lower is better, a fair coin has 0.25"),
    "brier_skill": (
        "Brier skill",
        "share of the baseline's Brier score that the model saves; above 0 is better",
    ),
    "mcc": ("MCC", "Matthews correlation of forecast and actual direction; 0 is no skill"),
    "auc": ("AUC", "probability that an up had a higher forecast than a down; 0.5 is no skill"),
    "rank_ic": (
        "rank IC",
        "mean over sessions of Spearman's correlation of forecasts and realized returns; 0 is no skill",
    ),
    "top_minus_bottom": (
        "top minus bottom fifth",
        "mean return of the fifth of a session's stocks with the highest forecasts less that of the lowest, before "
        "costs, over the forecast part of the time, in basis points; from the close on, no order can earn it",
    ),
    "rank_icir": (
        "rank ICIR",
        "rank IC over its standard deviation from session to session, not annualized; 0 is no skill",
    ),
    "auc_within_sessions": (
        "AUC within sessions",
        "the same among the stocks of one session: cross-sectional ranking; 0.5 is no skill",
    ),
    "auc_between_sessions": (
        "AUC between sessions",
        "probability that a session in which most stocks rose had a higher mean forecast than one in which most "
        "fell: timing; 0.5 is no skill",
    ),
    "balanced_accuracy": (
        "balanced accuracy",
        "mean of the hit rates among ups and among downs; 50% is no skill",
    ),
    "ece": (
        "calibration error",
        "ECE: mean distance between forecast probability and share of ups, in ten bins; lower is better",
    ),
    "miscalibration": ("miscalibration", "part of the Brier score that recalibration would save; 0 is best"),
    "discrimination": (
        "discrimination",
        "part of the Brier score that distinguishing ups from downs saves; higher is better",
    ),
    "uncertainty": (
        "uncertainty",
        "Brier score of the share of ups on these rows: how hard they are to forecast",
    ),
}
"""The label of each metric, and what it means."""
FURTHER_METRICS: Final = tuple(METRIC_CAPTIONS)[list(METRIC_CAPTIONS).index("top_minus_bottom") + 1 :]
"""Metrics that the short tables leave out; scores.csv has every metric."""
_GROUPS: Final = {
    "all": "backtest, all test rows",
    "live": "live record",
    "late": "late rows of the record",
}


def describe_group(group: str, output: Output = MAIN) -> str:
    """Describe the rows that a group of scores was measured on."""
    name = name_group(group, output).replace("sides taken", "rows with a direction")
    kind, _, rest = name.partition(", ")
    if kind in _GROUPS:
        return f"{_GROUPS[kind]}, {rest}" if rest else _GROUPS[kind]
    return f"backtest, {name}"


def forecast_rows(report: Report) -> list[dict[str, str]]:
    """Return the forecasts as rows of texts, sorted by symbol; of many only the farthest from the base rate."""
    rows = list_forecasts(report.forecasts)[:WHOLE]
    return sorted(
        ({name: str(cell) for name, cell in row.items()} for row in rows), key=lambda row: row["symbol"]
    )


def collect_scores(report: Report) -> pd.DataFrame:
    """Return the scores of the backtest followed by those of the record (schema.SCORES)."""
    parts = [scores for scores in (report.scores, report.live_scores) if len(scores)]
    return pd.concat(parts, ignore_index=True) if parts else report.scores


def select_own_scores(report: Report) -> pd.DataFrame:
    """Return the model's headline scores, sorted by group (backtest, live, late), output and metric."""
    scores = select_headline_scores(collect_scores(report))
    own = scores[scores["model"] == name_model(report)]
    live = own[own["group"].str.startswith("live")]
    order = list(dict.fromkeys([*_group_keys(report.scores), *_group_keys(live), *_group_keys(own)]))
    metrics = list(dict.fromkeys([*METRIC_CAPTIONS, *own["metric"]]))
    placed = own.assign(
        _group=[order.index(key) for key in _group_keys(own)], _metric=own["metric"].map(metrics.index)
    )
    return placed.sort_values(["_group", "_metric"]).drop(columns=["_group", "_metric"])


def _group_keys(scores: pd.DataFrame) -> list[tuple[str, Output]]:
    """Return the group and the output of each score."""
    outputs = map(Output, scores["target"], scores["horizon"].astype(int))
    return list(zip(scores["group"], outputs, strict=True))


def group_scores(scores: pd.DataFrame) -> list[tuple[tuple[str, Output], pd.DataFrame]]:
    """Return the scores of each group and output, in the order in which these occur."""
    return [
        ((str(key[0]), Output(str(key[1]), int(str(key[2])))), rows)
        for key, rows in scores.groupby(["group", "target", "horizon"], sort=False)
    ]


def select_headline_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the scores that short tables show: those of all metrics but FURTHER_METRICS."""
    return scores[~scores["metric"].isin(FURTHER_METRICS)]


def name_model(report: Report) -> str:
    """Return the name of the model in the scores; empty where nothing was scored."""
    return report.verdict.model if report.verdict else ""


def list_forecasts(forecasts: pd.DataFrame) -> list[dict[str, str]]:
    """Return one row of texts per symbol, the farthest from the base rate first."""
    if list_outputs(forecasts) != [MAIN]:
        return forecast_cells(forecasts)
    return [
        {
            "symbol": row["symbol"],
            "direction": row["direction"],
            "P(up)": format_percent(row["p_up"]),
            "band": f"{format_percent(row['low'])} to {format_percent(row['high'])}",
            "base rate": format_base_rate(row),
            "last close": format_price(row["last_close"]),
            "kind": row["kind"],
        }
        for row in sort_by_distance(forecasts).to_dict("records")
    ]


def score_rows(scores: pd.DataFrame) -> list[dict[str, str]]:
    """Return the headline scores (of schema.SCORES) as rows of texts."""
    return [
        {
            "rows": name_group(row["group"], Output(row["target"], row["horizon"])),
            "score": METRIC_CAPTIONS.get(row["metric"], (row["metric"],))[0],
            "value": format_score(row["value"], row["metric"]),
            "95% interval": format_interval(
                row["low"], row["high"], row["metric"], row["sessions"], row["horizon"]
            ),
            "n (effective)": f"{row['n']:,} ({format_effective_n(row['effective_n'])})",
            "sessions": f"{row['sessions']:,}",
            "best baseline": f"{format_score(row['baseline_value'], row['metric'])} {row['baseline']}",
            "p": format_p_value(row["p_value"]),
        }
        for row in select_headline_scores(scores).to_dict("records")
    ]
