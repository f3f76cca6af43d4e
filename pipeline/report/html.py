"""Rendering of the HTML pages: the Jinja templates and their filters for numbers, days and rows."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from pipeline import formatting, outputs
from pipeline.evaluation.timing_and_picking import LOOKS
from pipeline.report import insight_tables, tables

__all__ = ["MEANING", "render_page"]

MEANING: Final = {
    "edge": "Out-of-sample, the model beat its baseline by more than chance explains.",
    "no edge found": "This is a complete result. The direction of tomorrow's close is close to a coin toss, and "
    "out-of-sample the model was no better than its baseline by more than chance explains.",
    "worse than the baseline": "Out-of-sample, the baseline did better than the model. Prefer the baseline.",
    "not enough data": "Too few sessions have been scored to distinguish the model from chance.",
}

_OTHER: Final = MEANING | {
    "no edge found": "This is a complete result: out-of-sample the model was no better than its baseline by more than "
    "chance explains.",
}
"""The same where more is forecast than the direction of the next close."""

_DAY: Final = re.compile(r"([A-Z][a-z]{2} )?\d{4}-\d\d-\d\d( \d\d:\d\d UTC)?")


def render_page(template: str, **facts: object) -> str:
    """Return the page that the template gives for `facts`; equal facts give equal bytes."""
    return (
        _environment()
        .get_template(template)
        .render(meaning=MEANING, other_meaning=_OTHER, metrics=tables.METRIC_CAPTIONS, looks=LOOKS, **facts)
    )


@cache
def _environment() -> Environment:
    """Return the environment, which keeps the compiled templates for all pages of a process."""
    environment = Environment(
        loader=PackageLoader("pipeline.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": formatting.format_percent,
        "effective": formatting.format_effective_n,
        "chance": formatting.format_p_value,
        "score": formatting.format_score,
        "interval": formatting.format_interval,
        "points": formatting.format_points,
        "return": formatting.format_return,
        "difference": lambda value: formatting.format_alike(value)[0],
        "price": formatting.format_price,
        "moment": formatting.format_moment,
        "amount": formatting.count,
        "rows": tables.describe_group,
        "named": lambda row: outputs.name_group(row["group"], _output_of(row)),
        "output": lambda row: outputs.describe_output(_output_of(row)),
        "outcome": _describe_outcome,
        "arrow": lambda direction: _ARROWS.get(_side(direction), "·"),
        "side": _side,
        "key": outputs.name_key,
        "unbroken": _prevent_breaks,
        "in_two": _move_brackets_below,
        "day": formatting.format_day,
        "commas": "{:,}".format,
        "within": insight_tables.describe_reach,
    }
    return environment


_ARROWS: Final = {"up": "▲", "down": "▼"}


def _side(direction: str) -> str:
    """Return up for up and above, down for down and below, else none: the name of a style."""
    return {"above": "up", "below": "down"}.get(direction, direction)


def _output_of(row: Mapping[str, Any]) -> outputs.Output:
    return outputs.Output(row["target"], int(row["horizon"]))


def _describe_outcome(row: Mapping[str, Any], outcome: float) -> str:
    """Return the outcome of a row's output in a word: up, below, none."""
    return _output_of(row).directions[{1.0: 0, 0.0: 1}.get(outcome, 2)]


def _move_brackets_below(text: str) -> Markup:
    """Escape a text, and put its part in brackets on a separate line."""
    value, bracket, rest = text.partition(" (")
    below = f'<span class="under">{escape(rest.removesuffix(")"))}</span>' if bracket else ""
    return Markup(f"{escape(value)} {below}")


def _prevent_breaks(text: str) -> Markup:
    """Escape a text, and prevent line breaks inside a date or time: browsers break after a hyphen."""
    return Markup(_DAY.sub(r'<span class="whole">\g<0></span>', str(escape(text))))
