"""What is forecast: every output of a model is one target, so many sessions ahead. Outputs are never pooled.

Three targets are a direction of the total return over a part of the time: `direction` from close to close, `overnight`
from the close to the next open, `intraday` from that open to its close. The other three compare the same return with
the median of the universe's constituents.
"""

from collections.abc import Iterable
from itertools import product
from typing import Final, NamedTuple

import pandas as pd

__all__ = [
    "DIRECTION",
    "MAIN",
    "NEXT",
    "TARGETS",
    "Output",
    "describe_in_sentence",
    "describe_output",
    "describe_outputs",
    "explain_outputs",
    "list_outputs",
    "name_group",
    "name_key",
    "read_key",
    "select_main",
    "select_output",
    "split_group",
]

NEXT: Final = 1
"""The horizon of the next session."""

DIRECTION: Final = "direction"

TARGETS: Final = (
    DIRECTION,
    "relative",
    "overnight",
    "overnight_relative",
    "intraday",
    "intraday_relative",
)
"""The targets in the order of tables. Only the first two reach farther than the next session."""

_WORDS: Final = {True: ("above", "below", "none"), False: ("up", "down", "none")}


class Output(NamedTuple):
    """One output of a model: a target and how many sessions ahead it lies."""

    target: str
    horizon: int

    @property
    def part(self) -> str:
        """The part of the time whose return it is: direction (close to close), overnight or intraday."""
        return self.target.removesuffix("_relative") if self.target != "relative" else DIRECTION

    @property
    def is_relative(self) -> bool:
        """Whether the return is compared with the median of the universe's members."""
        return self.target.endswith("relative")

    @property
    def needs_open(self) -> bool:
        """Whether its label needs the next session's open."""
        return self.part != DIRECTION

    @property
    def directions(self) -> tuple[str, str, str]:
        """The names of a probability above 50%, one below, and no direction."""
        return _WORDS[self.is_relative]

    @property
    def order(self) -> tuple[int, int]:
        """Its place in tables."""
        return TARGETS.index(self.target), self.horizon


MAIN: Final = Output(DIRECTION, NEXT)
"""Up or down from one close to the next: forecast by default."""


def describe_output(output: Output) -> str:
    """Describe an output: "next session", "5 sessions ahead", "overnight against the median"."""
    ahead = "next session" if output.horizon == NEXT else f"{output.horizon} sessions ahead"
    part = output.part if output.needs_open else ahead
    return f"{part} against the median" if output.is_relative else part


def describe_in_sentence(output: Output) -> str:
    """Return the description after a comma, for the middle of a sentence; empty for the direction next session."""
    return "" if output == MAIN else f", {describe_output(output)}"


def describe_outputs(outputs: list[Output]) -> str:
    """Describe several outputs: "1, 5 and 20 sessions ahead", "next session and overnight"."""
    if all(output.target == DIRECTION for output in outputs) and len(outputs) > 1:
        *first, last = (str(output.horizon) for output in outputs)
        return f"{', '.join(first)} and {last} sessions ahead"
    *names, name = map(describe_output, outputs)
    return f"{', '.join(names)} and {name}" if names else name


def explain_outputs(outputs: Iterable[Output]) -> list[str]:
    """Return what can be done with a forecast of these outputs, and what not, a sentence each."""
    given, notes = list(outputs), []
    if any(output.is_relative for output in given):
        notes.append("Above and below are above and below the median return of the universe's constituents.")
    if any(output.part == "overnight" for output in given):
        notes.append(
            "An overnight forecast is issued after the close and tells the next opening: nobody can buy at that close "
            "any more."
        )
    if any(output.part == "intraday" for output in given):
        notes.append(
            "Intraday is from the next open to its close, the part that an order at the open can reach."
        )
    return notes


def name_key(output: Output) -> str:
    """Return a short name for files and tags: "5" for a direction five sessions ahead, "relative_1"."""
    return str(output.horizon) if output.target == DIRECTION else f"{output.target}_{output.horizon}"


def read_key(key: str) -> Output:
    """Return the output of a name of `name_key`.

    Raises:
        ValueError: there is no such output.
    """
    target, _, horizon = key.rpartition("_")
    if target and target not in TARGETS:
        raise ValueError(f"there is no target {target!r}")
    return Output(target or DIRECTION, int(horizon))


def name_group(group: str, output: Output) -> str:
    """Return the name of a group of scores together with its output; for the direction next session the group's own.

    Tables and the names of MLflow metrics show it; frames of scores keep `group`, `target` and `horizon` apart.
    """
    if output == MAIN:
        return group
    return describe_output(output) if group == "all" else f"{group}, {describe_output(output)}"


def split_group(name: str) -> tuple[str, int]:
    """Return the group and the horizon that earlier versions joined in one name."""
    group, _, far = name.rpartition(", ") if ", " in name else ("all", "", name)
    number, _, rest = far.partition(" ")
    return (group, int(number)) if rest == "sessions ahead" and number.isdecimal() else (name, NEXT)


def list_outputs(rows: pd.DataFrame) -> list[Output]:
    """Return the outputs of the rows in the order of tables; rows without a column `target` are directions."""
    if "target" not in rows:
        return sorted((Output(DIRECTION, int(h)) for h in rows["horizon"].unique()), key=lambda o: o.order)
    targets, horizons = rows["target"].unique(), rows["horizon"].unique()
    pairs = list(product(targets, horizons))
    if len(targets) > 1 and len(horizons) > 1:  # slower by far for millions of rows
        found = rows[["target", "horizon"]].drop_duplicates()
        pairs = list(zip(found["target"], found["horizon"], strict=True))
    return sorted((Output(str(target), int(horizon)) for target, horizon in pairs), key=lambda o: o.order)


def select_output(rows: pd.DataFrame, output: Output) -> pd.DataFrame:
    """Return the rows of one output; without a copy where there is no other."""
    chosen = rows["horizon"] == output.horizon
    if "target" in rows:
        chosen &= rows["target"] == output.target
    elif output.target != DIRECTION:
        chosen &= False
    return rows if chosen.all() else rows[chosen]


def select_main(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the output that headlines and figures show: the next session's, of the first target."""
    near = [output for output in list_outputs(rows) if output.horizon == NEXT]
    return select_output(rows, near[0] if near else MAIN)
