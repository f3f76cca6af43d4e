"""What people read, on disk: forecasts and scores as CSV, and the page."""

import csv
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import pandas as pd

from pipeline.formatting import format_instant
from pipeline.report.evening_markdown import summary_markdown
from pipeline.report.evening_page import render
from pipeline.report.evening_report import Report
from pipeline.report.tables import collect_scores, forecast_rows
from pipeline.schema import SCORES
from pipeline.storage.csv_output import format_csv
from pipeline.storage.files import write_text

__all__ = ["FORECAST_COLUMNS", "Paths", "Report", "forecast_rows", "place", "summary_markdown", "write"]

FORECAST_COLUMNS: Final = [
    "target_session",
    "symbol",
    "direction",
    "p_up",
    "low",
    "high",
    "baseline_p_up",
    "as_of",
    "last_close",
    "issued_at",
    "kind",
    "model_version",
    "data_version",
    "config_digest",
    "coverage",
    "survivorship_biased",
    "horizon",
]
"""The columns of forecast.csv and latest.csv."""


@dataclass(frozen=True)
class Paths:
    """Where a report lies."""

    folder: Path
    forecast_csv: Path
    scores_csv: Path
    html: Path
    latest_csv: Path


def place(folder: Path, universe: str, target_session: pd.Timestamp) -> Paths:
    """Return where the report of an evening lies in the workspace's reports; `target_session` is the next session."""
    home = folder / universe
    day = home / f"{target_session:%Y-%m-%d}"
    return Paths(day, day / "forecast.csv", day / "scores.csv", day / "report.html", home / "latest.csv")


def write(report: Report, folder: Path) -> Paths:
    """Write the report's files, each whole or not at all; equal reports give equal bytes.

    latest.csv never goes back: it stays if it speaks of a later session than this report.

    Args:
        report: What to write.
        folder: The workspace's reports; the files go to <universe>/<target_session>/ in it.

    Raises:
        NextdayError: a file cannot be written; it names which.
    """
    written = place(folder, report.universe, report.target_session)
    forecasts = _forecast_csv(report)
    write_text(written.forecast_csv, forecasts)
    write_text(written.scores_csv, format_csv(collect_scores(report)[list(SCORES.columns)]))
    if _newest_session(written.latest_csv) <= report.target_session.date():
        write_text(written.latest_csv, forecasts)
    write_text(written.html, render(report))  # last: where it lies, the others do
    return written


def _forecast_csv(report: Report) -> str:
    whole = report.forecasts.assign(
        coverage=report.covered / report.members, survivorship_biased=bool(report.bias)
    )
    rows = whole.sort_values(["horizon", "symbol"])[FORECAST_COLUMNS]
    days = {name: rows[name].dt.strftime("%Y-%m-%d") for name in ("target_session", "as_of")}
    return format_csv(rows.assign(**days, issued_at=[format_instant(when) for when in rows["issued_at"]]))


def _newest_session(latest: Path) -> date:
    """Return the next session that latest.csv speaks of, in its first row; a missing or damaged file speaks of none."""
    try:
        with latest.open(encoding="utf-8", newline="") as file:
            return date.fromisoformat(next(csv.DictReader(file), {}).get("target_session") or "")
    except (OSError, ValueError, csv.Error):
        return date.min
