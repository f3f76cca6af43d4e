"""Horizons of several sessions ahead: names and selection of their rows; horizons are never pooled."""

from typing import Final

import pandas as pd

__all__ = [
    "NEXT",
    "describe_horizon",
    "describe_horizons",
    "list_horizons",
    "name_group",
    "select_horizon",
    "split_group",
]


NEXT: Final = 1
"""The horizon of the next session: that of the main verdict, the figures and the folder of a report."""


def describe_horizon(horizon: int) -> str:
    """Describe how far ahead a horizon lies: "next session", "5 sessions ahead"."""
    return "next session" if horizon == NEXT else f"{horizon} sessions ahead"


def describe_horizons(horizons: list[int]) -> str:
    """Describe several horizons: "1, 5 and 20 sessions ahead"."""
    *first, last = map(str, horizons)
    return f"{', '.join(first)} and {last} sessions ahead" if first else describe_horizon(horizons[0])


def name_group(group: str, horizon: int) -> str:
    """Return the name of a group of scores together with its horizon; at the next session the group's own name.

    Tables and the names of MLflow metrics show it; frames of scores keep `group` and `horizon` apart.
    """
    if horizon == NEXT:
        return group
    return describe_horizon(horizon) if group == "all" else f"{group}, {describe_horizon(horizon)}"


def split_group(name: str) -> tuple[str, int]:
    """Return the group and the horizon that `name_group` has joined."""
    group, _, far = name.rpartition(", ") if ", " in name else ("all", "", name)
    number, _, rest = far.partition(" ")
    return (group, int(number)) if rest == "sessions ahead" and number.isdecimal() else (name, NEXT)


def list_horizons(rows: pd.DataFrame) -> list[int]:
    """Return the horizons of the rows, the nearest first."""
    return sorted(int(horizon) for horizon in rows["horizon"].unique())


def select_horizon(rows: pd.DataFrame, horizon: int = NEXT) -> pd.DataFrame:
    """Return the rows of one horizon; without a copy where there is no other."""
    chosen = rows["horizon"] == horizon
    return rows if chosen.all() else rows[chosen]
