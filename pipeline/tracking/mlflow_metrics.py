"""Settings, epochs and scores as a tracked run takes them: flat, under names that MLflow allows."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pandas as pd

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
    """Give every leaf of nested settings under its dotted name, as text of bounded length."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from list_params(value, f"{above}{key}.")
        else:
            text = str(value)
            cut = text if len(text) <= _LONGEST_PARAM else f"{text[: _LONGEST_PARAM - 1]}…"
            yield f"{above}{key}", cut


def measure_epochs(epochs: pd.DataFrame) -> list[Measured]:
    """Name what was measured at each epoch `fit/member-1/loss`."""
    long = epochs.melt(id_vars=["fit", "member", "epoch"])
    names = long["fit"] + "/member-" + long["member"].astype(str) + "/" + long["variable"]
    return list(zip(names.map(allowed_name), long["value"], long["epoch"].astype(int), strict=True))


def measure_scores(scores: pd.DataFrame) -> list[Measured]:
    """Name a score `gru.hit_rate`, one of some rows or of a farther horizon `large moves/gru.hit_rate`.

    The ends of its interval, n, effective n and the baseline's value follow as `gru.hit_rate.low` and so on.
    """
    keys = zip(scores["group"], scores["horizon"], scores["model"], scores["metric"], strict=True)
    names = [
        allowed_name(f"{metric_prefix(group, horizon)}{model}.{metric}")
        for group, horizon, model, metric in keys
    ]
    parts = {"": "value", ".low": "low", ".high": "high", ".n": "n", ".effective_n": "effective_n"}
    parts |= {".baseline": "baseline_value"}
    return [
        (f"{name}{suffix}", value, 0)
        for suffix, column in parts.items()
        for name, value in zip(names, scores[column], strict=True)
    ]


def metric_prefix(group: str, horizon: int) -> str:
    """Return the first part of metric names: empty for all rows of the next session, else `live, 5 sessions ahead/`.

    Users' charts in MLflow refer to these names: they must not change.
    """
    ahead = [f"{horizon} sessions ahead"] if horizon > 1 else []
    name = ", ".join([*([] if group == "all" else [group]), *ahead])
    return f"{name}/" if name else ""


def measure_trading(numbers: pd.DataFrame, names: Mapping[str, str]) -> list[Measured]:
    """Name a number of the trading view `trading/gru.sharpe`; its evidence goes along.

    Args:
        numbers: Of `pipeline.report.trading_tables.list_numbers`.
        names: Those to keep, by role, and what each is called.
    """
    own = numbers[numbers["role"].isin(names)]
    labels = ("trading/" + own["role"].map(names) + "." + own["metric"]).map(allowed_name)
    parts = {"": "value", ".low": "low", ".high": "high", ".n": "sessions", ".trades": "trades"}
    return [
        (f"{label}{suffix}", value, 0)
        for suffix, column in parts.items()
        for label, value in zip(labels, own[column], strict=True)
    ]


def allowed_name(name: str) -> str:
    """Replace what MLflow does not allow in the name of a metric."""
    return re.sub(r"[^\w\-. /]", "_", name)
