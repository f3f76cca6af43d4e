"""Settings, epochs and scores as a tracked run takes them: flat, under names that MLflow allows."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pandas as pd

__all__ = ["Measured", "allowed_name", "list_params", "measure_epochs", "measure_scores", "measure_trading"]

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
    """Name a score `gru.hit_rate`, one of a part of the rows `large moves/gru.hit_rate`; its evidence goes along."""
    group = scores["group"].map(lambda name: "" if name == "all" else f"{name}/")
    names = (group + scores["model"] + "." + scores["metric"]).map(allowed_name)
    parts = {"": "value", ".low": "low", ".high": "high", ".n": "n", ".effective_n": "effective_n"}
    parts |= {".baseline": "baseline_value"}
    return [
        (f"{name}{suffix}", value, 0)
        for suffix, column in parts.items()
        for name, value in zip(names, scores[column], strict=True)
    ]


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
