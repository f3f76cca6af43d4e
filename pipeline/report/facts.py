"""The key facts at the top of every report: prices, model, record and ledger."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Final

from pipeline.formatting import (
    count,
    describe_lead,
    format_day,
    format_interval,
    format_moment,
    format_percent,
)
from pipeline.monitoring.decay import FEWEST
from pipeline.outputs import describe_output, select_output
from pipeline.report.evening_report import Report
from pipeline.schema import is_void

__all__ = ["OLD_MODEL", "Fact", "collect_key_facts"]


OLD_MODEL: Final = 63
"""Sessions (a quarter of a year) after which the report warns: a weekly retrain has then failed twelve times."""


@dataclass(frozen=True)
class Fact:
    """A key fact about the prices, the model, the record or the ledger.

    Attributes:
        name: Its subject.
        text: The fact in a few words.
        more: The details.
        command: The command that checks it; may be empty.
        warning: What is wrong and how to fix it; may be empty.
    """

    name: str
    text: str
    more: str
    command: str = ""
    warning: str = ""


def collect_key_facts(report: Report) -> list[Fact]:
    """Return the facts: prices, model, record, ledger; first how the last calls turned out, if there were any."""
    facts = [
        *(_price_fact(report), _model_fact(report), _record_fact(report)),
        *([_decay_fact(report)] if report.decay else []),
        _ledger_fact(report),
    ]
    return facts if report.last_calls.empty else [_last_calls_fact(report), *facts]


def _last_calls_fact(report: Report) -> Fact:
    calls = report.last_calls
    counts = calls["call"].value_counts()
    right, judged = int(counts.get("right", 0)), int(counts.get("right", 0) + counts.get("wrong", 0))
    more = [f"forecast for {format_day(calls['target_session'].iloc[0])}"]
    if judged < len(calls):
        more.append(f"{len(calls) - judged:,} without a direction or an outcome")
    if not calls["is_settled"].all():
        more.append("provisional until the next settled bars")
    return Fact("last calls", f"{right:,} of {judged:,} right", "; ".join(more))


def _price_fact(report: Report) -> Fact:
    behind = (
        "the source ends there" if report.historical else f"{count(report.sessions_behind, 'session')} behind"
    )
    observed = describe_lead(report.issued_at, report.newest_observed_at)
    return Fact(
        "prices",
        f"reach {format_day(report.as_of)}",
        f"observed {observed} the forecasts were issued; {behind}; "
        f"{report.covered:,} of {report.members:,} constituents have a bar"
        + (f"; {report.bias}" if report.bias else ""),
    )


def _model_fact(report: Report) -> Fact:
    promoted = f", promoted {format_moment(report.promoted_at)}" if report.promoted_at else ""
    version = report.model.get("version", "unknown")
    return Fact(
        "model",
        f"{count(report.model_age, 'session')} old",
        f"{version}, trained through {format_day(report.trained_through)}{promoted}",
        warning=f"older than {OLD_MODEL} sessions: nextday retrain" if report.model_age > OLD_MODEL else "",
    )


def _record_fact(report: Report) -> Fact:
    settled = int(report.record["outcome"].notna().sum())
    counts = f"{len(report.record):,} sealed, {f'{settled:,}' if settled else 'none'} settled"
    if void := int(is_void(report.record).sum()):
        counts += f", {void:,} void"
    return Fact("record", counts, _describe_hit_rate(report) or "no outcome to score yet")


def _describe_hit_rate(report: Report) -> str:
    """Return a phrase with the first output's hit rate: of the live rows, or of the late ones while none is live."""
    main = report.outputs[0]
    scores = select_output(report.live_scores, main)
    own = scores[(scores["metric"] == "hit_rate") & (scores["model"] != scores["baseline"])]
    of_what = f" ({describe_output(main)})" if len(report.outputs) > 1 else ""
    whole = own[own["group"].isin(["live", "late"])].sort_values("group", ascending=False)
    for row in whole.head(1).to_dict("records"):
        sides = own[own["group"] == f"{row['group']}, sides taken"].head(1).to_dict("records")
        issued = "".join(f"; where a direction was issued {_describe_rate(each)}" for each in sides)
        return f"{row['group']} hit rate{of_what} {_describe_rate(row)}{issued}"
    return ""


def _describe_rate(row: dict[Hashable, Any]) -> str:
    interval = format_interval(row["low"], row["high"], "hit_rate", row["sessions"])
    return (
        f"{format_percent(row['value'])}, 95% interval {interval}, n {row['n']:,} over "
        f"{count(row['sessions'], 'session')}; {row['baseline']} {format_percent(row['baseline_value'])}"
    )


_STATES: Final = ("decayed", "doubtful", "as expected", "too early")


def _decay_fact(report: Report) -> Fact:
    """Return what the decay alarm says: the worst output in a few words, then the evidence of each."""
    ordered = sorted(report.decay, key=lambda decay: _STATES.index(decay.state))
    worst, has_several = ordered[0], len(ordered) > 1
    more = [decay.sentence if has_several else decay.evidence_text for decay in ordered]
    warning, kind = "", "simulated" if worst.is_simulated else "live"
    if worst.state == "decayed":
        stopped = (report.forecasts["direction"] == "none").all()
        warning = " ".join(
            part
            for part in (
                f"The {kind} record is worse than it should be: retrain, change the settings or stop using it.",
                "No direction is given." if stopped else "",
                report.drift,
                "nextday alarm accept begins the test anew.",
            )
            if part
        )
    elif report.drift:
        warning = report.drift
    evidence = "; ".join(each for each in more if each) or f"it is tested from {FEWEST} {kind} sessions on"
    return Fact("decay alarm", worst.title, evidence, warning=warning)


def _ledger_fact(report: Report) -> Fact:
    head = report.ledger_head
    return Fact(
        "ledger",
        f"head {head[:12]}…",
        "to verify that nothing sealed was changed:",
        command=f"nextday ledger verify --head {head}",
    )
