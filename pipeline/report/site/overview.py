"""The index of a site: tonight's forecasts, the record of each output, the calendar, champions, alarms and coverage."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd
from markupsafe import Markup

from pipeline.evaluation.rolling import ROLLING
from pipeline.evaluation.timing_and_picking import PICKING, TIMING
from pipeline.formatting import (
    count,
    format_alike,
    format_day,
    format_interval,
    format_moment,
    format_p_value,
    format_percent,
    format_score,
)
from pipeline.outputs import Output, describe_output, describe_outputs, list_outputs
from pipeline.report import output_tables
from pipeline.report.html import render_page
from pipeline.report.site import figures, months, tonight
from pipeline.report.site.inputs import SiteInputs
from pipeline.report.site.record import KINDS, Part
from pipeline.report.tables import METRIC_CAPTIONS, count_directions

__all__ = ["render_index"]

Cell = tuple[str, str, str]
"""A value, its interval, and what it is to be compared with: texts."""

_LISTED: Final = ("hit_rate", "rank_ic", "brier", "ece")
_SKILLS: Final = {
    TIMING: "log loss saved per session by the session means of the forecasts, against the base rate; 0 is no skill",
    PICKING: "AUC within sessions: whether stocks are told apart inside a session; 0.5 is no skill",
}
_REASONS: Final = 5


def render_index(inputs: SiteInputs, parts: Sequence[Part], scores: pd.DataFrame) -> str:
    """Return the page on the whole record.

    Args:
        inputs: What the site is made of.
        parts: Of `record.measure_parts`.
        scores: Of `record.score_symbols`.
    """
    report = inputs.report
    table = tonight.list_table(inputs, scores)
    judged = months.judge_days(report.record, inputs.sessions)
    return render_page(
        "site/index.html",
        r=report,
        verdict_of_record=_verdict_of_record(parts),
        counted=output_tables.count_forecasts(report.forecasts),
        direction_counts=count_directions(report.forecasts),
        count=len(table["symbols"]),
        table=output_tables.encode_list(table),
        **output_tables.LIST,
        kind=tonight.tell_kind(inputs),
        names=[describe_output(each) for each in list_outputs(report.forecasts)],
        all_outputs=describe_outputs(report.outputs),
        all_directions=all(each.target == "direction" for each in report.outputs),
        sections=[*_list_sections(report.outputs, parts)],
        months=months.list_months(judged, inputs.weekdays, inputs.dated),
        years=months.count_years(judged),
        totals=Counter(judged["state"]),
        champions=_list_champions(inputs),
        decays=[(each.sentence, each.is_news) for each in report.decay],
        acceptances=list(reversed(inputs.acceptances)),
        coverage=_measure_coverage(inputs),
        reasons=Counter(report.skipped["reason"]).most_common(_REASONS),
        quarantined=sorted(inputs.quarantined),
        backtest=inputs.backtest,
        evening=f"{report.target_session:%Y-%m-%d}/report.html",
    )


def _verdict_of_record(parts: Sequence[Part]) -> Part | None:
    """Return the live rows of the first output, or the late ones while there are no live ones."""
    first = [part for part in parts if part.output == parts[0].output and part.kind != "backtest"]
    return min(first, key=lambda part: KINDS.index(part.kind), default=None)


@dataclass(frozen=True, eq=False)
class Section:
    """The record of one output.

    Attributes:
        name: The output in words.
        columns: The kinds of rows that there are.
        lines: Name, explanation, and a cell for each kind: value, its interval, what it is to be compared with.
        plots: Title and explanation, then the name and the plot of each kind that has one.
    """

    name: str
    columns: list[dict[str, str]]
    lines: list[tuple[str, str, list[Cell]]]
    plots: list[tuple[str, str, list[tuple[str, Markup]]]]


def _list_sections(outputs: Sequence[Output], parts: Sequence[Part]) -> Iterator[Section]:
    for output in outputs:
        if own := [part for part in parts if part.output == output]:
            columns = [_describe_part(part) for part in own]
            yield Section(describe_output(output), columns, [*_list_lines(own)], [*_list_plots(own)])


def _describe_part(part: Part) -> dict[str, str]:
    return {
        "kind": part.kind,
        "span": f"{part.first:%Y-%m-%d} to {part.last:%Y-%m-%d}",
        "n": f"{part.verdict.n:,}",
        "sessions": f"{part.verdict.sessions:,}",
        "conclusion": part.verdict.conclusion,
    }


def _list_lines(parts: Sequence[Part]) -> Iterator[tuple[str, str, list[Cell]]]:
    """Yield the lines of a section's table: the log loss saved, timing and picking, then other scores."""
    yield (
        "log loss saved per session",
        "nats, compared with the base rate on the same rows; above 0 is better",
        [_saved_cell(part) for part in parts],
    )
    for name, words in _SKILLS.items():
        cells = [_skill_cell(part, name) for part in parts]
        if any(value != "–" for value, _, _ in cells):
            yield name, words, cells
    for metric in _LISTED:
        cells = [_score_cell(part, metric) for part in parts]
        if any(value != "–" for value, _, _ in cells):
            name, words = METRIC_CAPTIONS[metric]
            yield name, words, cells


def _saved_cell(part: Part) -> Cell:
    found = part.verdict
    value, low, high = format_alike(found.difference, found.low, found.high)
    few = format_interval(found.low, found.high, "log_loss", found.sessions, part.output.horizon)
    interval = f"{low} to {high}" if found.low <= found.high else few
    return value, interval, f"{found.conclusion}, p {format_p_value(found.p_value)}"


def _skill_cell(part: Part, name: str) -> Cell:
    found = next((skill for skill in part.skills if skill.name == name), None)
    if found is None or math.isnan(found.value):
        return "–", "", found.conclusion if found else ""
    value, low, high = format_alike(found.value, found.low, found.high, sign="+" if name == TIMING else "")
    few = format_interval(found.low, found.high, "auc", found.sessions, part.output.horizon)
    return value, f"{low} to {high}" if found.low <= found.high else few, found.conclusion


def _score_cell(part: Part, metric: str) -> Cell:
    own, base = part.score(metric), part.score(metric, of_base_rate=True)
    if own is None:
        return "–", "", ""
    interval = format_interval(own["low"], own["high"], metric, own["sessions"], own["horizon"])
    beside = f"base rate {format_score(base['value'], metric)}" if base is not None else ""
    return format_score(own["value"], metric), interval, beside


def _list_plots(parts: Sequence[Part]) -> Iterator[tuple[str, str, list[tuple[str, Markup]]]]:
    """Yield each kind of plot, the parts side by side."""
    for title, words, draw in _PLOTS:
        drawn = [(part, draw(part)) for part in parts]
        shown = [(_name_part(part), plot) for part, plot in drawn if plot is not None]
        if shown:
            yield title, words, shown


def _name_part(part: Part) -> str:
    return f"{part.kind}, n {part.verdict.n:,}, {count(part.verdict.sessions, 'session')}"


_PLOTS: Final[Sequence[tuple[str, str, Callable[[Part], Markup | None]]]] = (
    (
        "Cumulative log loss saved",
        "Nats against the base rate. The shaded range is where a method without skill stays in 95% of cases at any one "
        "session: skill rises steadily and leaves it, luck wanders inside.",
        figures.plot_total,
    ),
    (
        "Rolling log loss saved",
        f"Thousandths of a nat per session over the last {ROLLING} sessions, with the 95% interval.",
        figures.plot_rolling,
    ),
    (
        "Rolling hit rate",
        f"Over the last {ROLLING} sessions, with its 95% interval; the dashed line is the base rate's, which gives the "
        "more frequent direction every time.",
        figures.plot_hits,
    ),
    (
        "Calibration",
        "From left to right the forecast probability, upwards the share that came true, with its 95% interval by "
        "session. Where the dashed line crosses an interval, no miscalibration is detected.",
        figures.plot_calibration,
    ),
)


def _list_champions(inputs: SiteInputs) -> list[dict[str, str]]:
    """Return the models that forecast as champions, the newest first, and why each was promoted."""
    record = inputs.report.record
    is_live = record["kind"] == "live"
    served = record.assign(live=is_live).groupby("model_version").agg(
        first=("as_of", "min"), last=("as_of", "max"), rows=("as_of", "size"), sessions=("as_of", "nunique"),
        live=("live", "sum"),
    )  # fmt: skip
    promoted = {each.model_version: each for each in inputs.promotions}
    order = [
        *served.sort_values(["first", "last"]).index,
        *(version for version in promoted if version not in served.index),
    ]
    return [_describe_champion(str(each), served, promoted.get(str(each))) for each in reversed(order)]


def _describe_champion(version: str, served: pd.DataFrame, promotion: Any) -> dict[str, str]:
    row = served.loc[version] if version in served.index else None
    return {
        "version": version,
        "promoted": format_moment(pd.Timestamp(promotion.promoted_at).to_pydatetime()) if promotion else "–",
        "served": f"{row['first']:%Y-%m-%d} to {row['last']:%Y-%m-%d}"
        if row is not None
        else "no session yet",
        "sessions": f"{row['sessions']:,}" if row is not None else "0",
        "rows": f"{row['rows']:,}" if row is not None else "0",
        "live": f"{row['live']:,}" if row is not None else "0",
        "why": promotion.in_words if promotion else "not written down: promoted by an earlier version",
    }


def _measure_coverage(inputs: SiteInputs) -> list[tuple[str, str, str]]:
    """Return numbers on who is forecast and who is missing: name, number, details."""
    report = inputs.report
    forecast = report.forecasts["symbol"].nunique()
    bars = report.covered / report.members if report.members else float("nan")
    share = forecast / report.members if report.members else float("nan")
    events = inputs.quarantine
    return [
        ("constituents", f"{report.members:,}", f"on {format_day(report.as_of)}"),
        ("with a bar that day", f"{report.covered:,}", format_percent(bars)),
        ("forecast", f"{forecast:,}", format_percent(share)),
        ("without a forecast", f"{len(report.skipped):,}", "reasons below" if len(report.skipped) else ""),
        (
            "no constituents any more",
            f"{inputs.left_out:,}",
            f"of {len({*inputs.listing}):,} listings ever forecast; their rows stay in every score",
        ),
        (
            "list entries without dates",
            f"{inputs.undated:,}",
            f"of {inputs.listed:,}; " + (report.bias or "each entry has the dates of its membership"),
        ),
        (
            "in quarantine",
            f"{len(inputs.quarantined):,}",
            f"ever held: {int((events['event'] == 'held').sum()):,}",
        ),
        *(
            [("findings of the price checks", f"{len(report.findings):,}", "tonight")]
            if not inputs.is_rebuilt
            else []
        ),
        ("outcomes revised by the source", f"{len(report.corrections):,}", "the first value counts"),
    ]
