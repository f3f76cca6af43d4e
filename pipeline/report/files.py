"""The files of a nightly report: forecasts and scores as CSV, the HTML page, and the newest forecasts as JSON."""

import csv
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import pandas as pd

from pipeline.evaluation.selective import is_within_band
from pipeline.formatting import format_instant
from pipeline.outputs import TARGETS, select_main
from pipeline.report.documents.evening import Latest, Record
from pipeline.report.evening_page import render
from pipeline.report.evening_report import Report
from pipeline.report.site.addresses import INDEX
from pipeline.report.tables import collect_scores
from pipeline.schema import SCORES
from pipeline.storage.csv_output import format_csv
from pipeline.storage.files import measure_folder, remove_folder, write_text

__all__ = [
    "FORECAST_COLUMNS",
    "Paths",
    "find_foreign_latest",
    "list_rows",
    "remove_reports",
    "report_paths",
    "write",
]

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
    "last_call",
    "differs_from_base_rate",
    "p_low",
    "p_high",
    "data_coverage",
    "target",
]
"""The columns of forecast.csv and latest.csv; low, high and coverage are the former names of
p_low, p_high and data_coverage."""


@dataclass(frozen=True)
class Paths:
    """The paths of a report's files."""

    folder: Path
    forecast_csv: Path
    scores_csv: Path
    html: Path
    latest_csv: Path

    @property
    def latest_json(self) -> Path:
        """What latest.csv holds, for programs; see docs/json.md."""
        return self.latest_csv.with_name("latest.json")

    @property
    def record_json(self) -> Path:
        """The figures of the record."""
        return self.latest_csv.with_name("record.json")

    @property
    def site(self) -> Path:
        """The index of the universe's site."""
        return self.latest_csv.with_name(INDEX)


def report_paths(folder: Path, universe: str, target_session: pd.Timestamp) -> Paths:
    """Return the paths of a nightly report below the workspace's reports; `target_session` is the next session."""
    home = folder / universe
    day = home / f"{target_session:%Y-%m-%d}"
    return Paths(day, day / "forecast.csv", day / "scores.csv", day / "report.html", home / "latest.csv")


def write(report: Report, folder: Path) -> Paths:
    """Write the report's files, each of them atomically; equal reports give equal bytes.

    latest.csv, latest.json and record.json never go back in time: they are kept if the target session of latest.csv is
    later than that of this report, unless no sealed forecast is for so late a session (see `find_foreign_latest`).

    Args:
        report: What to write.
        folder: The workspace's reports; the files go to <universe>/<target_session>/ in it.

    Raises:
        NextdayError: a file cannot be written; the error names it.
    """
    written = report_paths(folder, report.universe, report.target_session)
    rows = list_rows(report)
    forecasts = _forecast_csv(rows)
    write_text(written.forecast_csv, forecasts)
    write_text(written.scores_csv, format_csv(collect_scores(report)[list(SCORES.columns)]))
    is_foreign = find_foreign_latest(report, folder) is not None
    if is_foreign or _newest_session(written.latest_csv) <= report.target_session.date():
        write_text(written.record_json, Record.read(report).to_text())
        write_text(written.latest_json, Latest.read(report, rows).to_text())
        write_text(written.latest_csv, forecasts)
    write_text(written.html, render(report))  # last: where it exists, so do the others
    return written


def remove_reports(folder: Path, universe: str, before: date) -> tuple[int, int]:
    """Remove the universe's reports for sessions before a day: the folders named by a date.

    Args:
        folder: The workspace's reports.
        universe: The universe's name; the caller must hold its lock.
        before: The first session whose report stays.

    Returns:
        The number of reports, and the bytes of their files.
    """
    dated = (path for path in (folder / universe).glob("????-??-??") if path.is_dir())
    found = [path for path in dated if path.name < before.isoformat()]
    size = 0
    for path in found:
        size += measure_folder(path)
        remove_folder(path)
    return len(found), size


def find_foreign_latest(report: Report, folder: Path) -> date | None:
    """Return the session of a latest.csv that is later than every sealed forecast's: it would never be replaced.

    None where there is no such file, or where this report is not that of the newest forecasts in its record.
    """
    if report.record.empty or report.record["as_of"].max() != report.forecasts["as_of"].max():
        return None
    latest = _newest_session(report_paths(folder, report.universe, report.target_session).latest_csv)
    return latest if latest > report.target_session.date() else None


def list_rows(report: Report) -> pd.DataFrame:
    """Return the rows of forecast.csv in their order: its columns, not yet formatted, and more."""
    coverage = report.covered / report.members
    forecasts = report.forecasts.assign(
        p_low=report.forecasts["low"],
        p_high=report.forecasts["high"],
        coverage=coverage,
        data_coverage=coverage,
        survivorship_biased=bool(report.bias),
        differs_from_base_rate=~is_within_band(report.forecasts),
        last_call="",
    )
    first = select_main(forecasts).index  # the calls that are judged are those of the first output
    forecasts.loc[first, "last_call"] = [report.last_call.get(s, "") for s in forecasts.loc[first, "symbol"]]
    order = forecasts["target"].map(TARGETS.index)
    return forecasts.assign(_target=order).sort_values(["_target", "horizon", "symbol"])


def _forecast_csv(listed: pd.DataFrame) -> str:
    rows = listed[FORECAST_COLUMNS]
    days = {name: rows[name].dt.strftime("%Y-%m-%d") for name in ("target_session", "as_of")}
    return format_csv(rows.assign(**days, issued_at=[format_instant(when) for when in rows["issued_at"]]))


def _newest_session(latest: Path) -> date:
    """Return the target session in the first row of latest.csv; `date.min` if the file is missing or damaged."""
    try:
        with latest.open(encoding="utf-8", newline="") as file:
            return date.fromisoformat(next(csv.DictReader(file), {}).get("target_session") or "")
    except (OSError, ValueError, csv.Error):
        return date.min
