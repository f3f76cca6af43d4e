"""How the pages of HTML are made: the templates, and how they write numbers, days and rows."""

import re
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from pipeline import formatting
from pipeline.evaluation import horizons
from pipeline.report import insight_tables, tables

__all__ = ["MEANING", "render_page"]

MEANING: Final = {
    "edge": "On sessions that no fit had seen, the model beat the best simple rule by more than chance explains.",
    "no edge found": "This is a complete result. The direction of tomorrow's close is close to a coin toss, and on "
    "sessions that no fit had seen the model told no more than the best simple rule.",
    "worse than the baseline": "On sessions that no fit had seen, the simple rule would have served better. Prefer it.",
    "not enough data": "Too few sessions have been scored to tell a model from chance. More evenings will.",
}

_DAY: Final = re.compile(r"([A-Z][a-z]{2} )?\d{4}-\d\d-\d\d( \d\d:\d\d UTC)?")


def render_page(template: str, **facts: object) -> str:
    """Return a page; equal facts give equal bytes."""
    return (
        _environment().get_template(template).render(meaning=MEANING, metrics=tables.METRIC_CAPTIONS, **facts)
    )


def _environment() -> Environment:
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
        "chance": formatting.format_p_value,
        "score": formatting.format_score,
        "interval": formatting.format_interval,
        "points": formatting.format_points,
        "price": formatting.format_price,
        "moment": formatting.format_moment,
        "amount": formatting.count,
        "rows": tables.describe_group,
        "named": horizons.name_group,
        "unbroken": _keep_days_whole,
        "in_two": _put_below,
        "day": formatting.format_day,
        "commas": "{:,}".format,
        "within": insight_tables.describe_reach,
    }
    return environment


def _put_below(text: str) -> Markup:
    """Escape a text, and put what it has in brackets on a line of its own."""
    value, bracket, rest = text.partition(" (")
    below = f'<span class="under">{escape(rest.removesuffix(")"))}</span>' if bracket else ""
    return Markup(f"{escape(value)} {below}")


def _keep_days_whole(text: str) -> Markup:
    """Escape a text, and let no line end inside a day or an instant: browsers break after a hyphen."""
    return Markup(_DAY.sub(r'<span class="whole">\g<0></span>', str(escape(text))))
