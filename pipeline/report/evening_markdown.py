"""The short form of the nightly report in Markdown, for Prefect."""

from pathlib import Path
from typing import Final

from pipeline.formatting import format_day, format_moment
from pipeline.report.evening_report import Report
from pipeline.report.facts import Fact, collect_key_facts
from pipeline.report.output_tables import count_forecasts, list_further_sentences
from pipeline.report.tables import (
    count_directions,
    describe_group,
    group_scores,
    list_forecasts,
    name_model,
    score_rows,
    select_own_scores,
)

__all__ = ["format_cell", "format_table", "summary_markdown"]

_FEW: Final = 20  # forecasts that the summary lists


def summary_markdown(report: Report, page: Path | None = None) -> str:
    """Return the report in Markdown: verdict, key facts, the forecasts farthest from the base rate, scores.

    Args:
        report: What to show.
        page: The report's HTML page, whose path is named.
    """
    rows = list_forecasts(report.forecasts)
    shown = rows[:_FEW]
    left_out = len(rows) - len(shown)
    lines = [
        f"# {report.universe}: {report.target_session:%A %Y-%m-%d}",
        "",
        f"**{format_cell(report.verdict.headline)}**" if report.verdict else "Not scored yet.",
        "",
        *(f"{format_cell(each)}\n" for each in list_further_sentences(report.verdict, report.further)),
        *([format_cell(report.tried), ""] if report.tried else []),
        f"{count_forecasts(report.forecasts)} from the close of {format_day(report.as_of)}, "
        f"{report.kind_and_cause}, issued {format_moment(report.issued_at)}: {count_directions(report.forecasts)}.",
        "",
        *([f"The whole report: `{page}`", ""] if page else []),
        *map(_format_fact, collect_key_facts(report)),
        "",
        *format_table(shown),
        *(["", format_cell(report.beside_base_rate)] if report.beside_base_rate else []),
        *(
            ["", f"The {len(shown)} farthest from the base rate; {left_out} more in forecast.csv."]
            if left_out
            else []
        ),
        *(line for each in report.challengers for line in ("", format_cell(each.sentence))),
        "",
        *(_format_scores(report) or ["There is no score yet.", ""]),
    ]
    return "\n".join(lines)


def _format_scores(report: Report) -> list[str]:
    lines = []
    for (group, output), scores in group_scores(select_own_scores(report)):
        rows = [{name: cell for name, cell in row.items() if name != "rows"} for row in score_rows(scores)]
        lines += [f"## Scores of {name_model(report)}: {describe_group(group, output)}", ""]
        lines += [*format_table(rows), ""]
    return lines


def _format_fact(fact: Fact) -> str:
    command = f" `{fact.command}`" if fact.command else ""
    warning = f"; **{format_cell(fact.warning)}**" if fact.warning else ""
    return f"- {fact.name}: **{format_cell(fact.text)}**; {format_cell(fact.more)}{command}{warning}"


def format_table(rows: list[dict[str, str]]) -> list[str]:
    """Return rows with the same keys as the lines of a Markdown table; no line without rows."""
    if not rows:
        return []
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return [f"| {' | '.join(map(format_cell, line))} |" for line in lines]


def format_cell(text: str) -> str:
    """Return the text escaped for a Markdown table cell: no pipe, no line break, no HTML tag, no emphasis."""
    return str(text).replace("|", "\\|").replace("*", "\\*").replace("\n", " ").replace("<", "&lt;")
