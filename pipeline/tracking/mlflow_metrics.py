"""Parameters and metrics of a tracked run: settings, epochs and scores, flat, under names that MLflow allows."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pandas as pd

from pipeline.outputs import MAIN, Output, name_group

__all__ = [
    "Measured",
    "allowed_name",
    "list_params",
    "measure_epochs",
    "measure_scores",
    "measure_trading",
    "metric_prefix",
]

_LONGEST_PARAM: Final = 500

Measured = tuple[str, float, int]
"""Name, value and step of a metric."""


def list_params(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield every leaf of nested settings with its dotted name, as text of at most 500 characters.

    A table by symbol, some of which MLflow allows in no name, is a leaf.
    """
    for key, value in settings.items():
        if isinstance(value, Mapping) and all(allowed_name(name) == name for name in value):
            yield from list_params(value, f"{above}{key}.")
        else:
            text = str(value)
            cut = text if len(text) <= _LONGEST_PARAM else f"{text[: _LONGEST_PARAM - 1]}…"
            yield f"{above}{key}", cut


def measure_epochs(epochs: pd.DataFrame) -> list[Measured]:
    """Return the metrics of each epoch, named like `fit/member-1/loss`."""
    long = epochs.melt(id_vars=["fit", "member", "epoch"])
    names = long["fit"] + "/member-" + long["member"].astype(str) + "/" + long["variable"]
    return list(zip(names.map(allowed_name), long["value"], long["epoch"].astype(int), strict=True))


def measure_scores(scores: pd.DataFrame, model: str) -> list[Measured]:
    """Return the scores in three groups, which MLflow's page of a run shows apart.

    The values of `model` are named like `gru.hit_rate`, those of the others `baselines/momentum.hit_rate`. Intervals,
    n, effective n, the baseline's value and the t statistic of all of them are `details/gru.hit_rate.low` and so on. A
    group of rows or a further output comes first: `large moves/gru.hit_rate`.

    Args:
        scores: schema.SCORES.
        model: The model that the others are compared with.
    """
    parts = {"": "value", ".low": "low", ".high": "high", ".n": "n", ".effective_n": "effective_n"}
    parts |= {".baseline": "baseline_value", ".t": "t_statistic"}
    return [
        (
            allowed_name(f"{prefix}{kind}{row['model']}.{row['metric']}{suffix}"),
            row[column],
            0,
        )
        for suffix, column in parts.items()
        for row in scores.to_dict("records")
        for prefix in [metric_prefix(row["group"], Output(row["target"], row["horizon"]))]
        for kind in ["details/" if suffix else "" if row["model"] == model else "baselines/"]
    ]


def metric_prefix(group: str, output: Output) -> str:
    """Return the first part of metric names: empty for all rows of the direction next session, else as
    `live, 5 sessions ahead/`.

    Users' charts in MLflow refer to these names: they must not change.
    """
    return "" if group == "all" and output == MAIN else f"{name_group(group, output)}/"


def measure_trading(numbers: pd.DataFrame, names: Mapping[str, str], output: str = "") -> list[Measured]:
    """Return the numbers of the trading view, named like `trading/gru.sharpe`, with intervals and counts.

    Those of a further output are named like `trading/relative_1.gru.sharpe`.

    Args:
        numbers: From `pipeline.report.trading_tables.list_numbers`.
        names: The roles to keep, and the name of each.
        output: The key of the output, where it is not the first one.
    """
    prefix = f"trading/{output}." if output else "trading/"
    chosen = numbers[numbers["role"].isin(names)]
    labels = (prefix + chosen["role"].map(names) + "." + chosen["metric"]).map(allowed_name)
    parts = {"": "value", ".low": "low", ".high": "high", ".n": "sessions", ".trades": "trades"}
    return [
        (f"{label}{suffix}", value, 0)
        for suffix, column in parts.items()
        for label, value in zip(labels, chosen[column], strict=True)
    ]


def allowed_name(name: str) -> str:
    """Return the name with an underscore for every character that MLflow does not allow in a metric's name."""
    return re.sub(r"[^\w\-. /]", "_", name)
