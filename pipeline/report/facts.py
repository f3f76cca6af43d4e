"""What a reader should know before the numbers."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Final

from pipeline.evaluation.horizons import select_horizon
from pipeline.formatting import (
    count,
    describe_lead,
    format_day,
    format_interval,
    format_moment,
    format_percent,
)
from pipeline.report.evening_report import Report

__all__ = ["OLD_MODEL", "Fact", "collect_key_facts"]


OLD_MODEL: Final = 63
"""Sessions, a quarter of a year: a weekly retrain that has failed twelve times should be noticed."""


@dataclass(frozen=True)
class Fact:
    """What a reader should know before the numbers: of the prices, the model, the record or the ledger.

    Attributes:
        name: What it is about.
        text: The fact in a few words.
        more: The rest of it.
        command: What to type to check it; may be empty.
        warning: What is wrong and the fix; may be empty.
    """

    name: str
    text: str
    more: str
    command: str = ""
    warning: str = ""


def collect_key_facts(report: Report) -> list[Fact]:
    """Return how fresh the prices are, how old the model, how long the record, and the ledger's head."""
    return [_prices(report), _model(report), _record(report), _ledger(report)]


def _prices(report: Report) -> Fact:
    behind = (
        "the source ends there" if report.historical else f"{count(report.sessions_behind, 'session')} behind"
    )
    observed = describe_lead(report.issued_at, report.newest_observed_at)
    return Fact(
        "prices",
        f"reach {format_day(report.as_of)}",
        f"observed {observed} the forecasts were issued; {behind}; "
        f"{report.covered:,} of {report.members:,} members have a bar"
        + (f"; {report.bias}" if report.bias else ""),
    )


def _model(report: Report) -> Fact:
    promoted = f", promoted {format_moment(report.promoted_at)}" if report.promoted_at else ""
    version = report.model.get("version", "unknown")
    return Fact(
        "model",
        f"{count(report.model_age, 'session')} old",
        f"{version}, trained through {format_day(report.trained_through)}{promoted}",
        warning=f"older than {OLD_MODEL} sessions: nextday retrain" if report.model_age > OLD_MODEL else "",
    )


def _record(report: Report) -> Fact:
    settled = int(report.record["outcome"].notna().sum())
    counts = f"{len(report.record):,} sealed, {f'{settled:,}' if settled else 'none'} settled"
    return Fact("record", counts, _hit_rate(report) or "no outcome to score yet")


def _hit_rate(report: Report) -> str:
    """Return the next session's hit rate of the live rows, or while there is none of the late ones."""
    scores = select_horizon(report.live_scores)
    own = scores[(scores["metric"] == "hit_rate") & (scores["model"] != scores["baseline"])]
    of_what = " of the next session" if len(report.horizons) > 1 else ""
    whole = own[own["group"].isin(["live", "late"])].sort_values("group", ascending=False)
    for row in whole.head(1).to_dict("records"):
        sides = own[own["group"] == f"{row['group']}, sides taken"].head(1).to_dict("records")
        told = "".join(f"; where a side was taken {_describe_rate(side)}" for side in sides)
        return f"{row['group']} hit rate{of_what} {_describe_rate(row)}{told}"
    return ""


def _describe_rate(row: dict[Hashable, Any]) -> str:
    interval = format_interval(row["low"], row["high"], "hit_rate", row["sessions"])
    return (
        f"{format_percent(row['value'])}, 95% interval {interval}, n {row['n']:,} over "
        f"{count(row['sessions'], 'session')}; {row['baseline']} {format_percent(row['baseline_value'])}"
    )


def _ledger(report: Report) -> Fact:
    head = report.ledger_head
    return Fact(
        "ledger",
        f"head {head[:12]}…",
        "proof that nothing sealed was changed:",
        command=f"nextday ledger verify --head {head}",
    )
