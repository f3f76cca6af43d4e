"""Why forecasts are late and not live: the causes that applied; and which of a session's rows are exceptions."""

import pandas as pd

from flows.runtime.context import Run
from pipeline.formatting import format_day, format_moment
from pipeline.report.tables import describe_added, describe_void

__all__ = ["describe_exceptions", "explain_late", "explain_never_live"]


def explain_late(run: Run, standing: pd.DataFrame, record: pd.DataFrame, observed_at: pd.Timestamp) -> str:
    """Return which conditions of a live forecast the late rows of one session do not meet; empty if all are live.

    Where only some are late, it says how many.

    Args:
        run: The run.
        standing: The sealed rows of one session (schema.FORECASTS and is_new).
        record: The universe's record.
        observed_at: When the newest price was observed.
    """
    late = standing[standing["kind"] == "late"]
    if late.empty:
        return ""
    if run.in_simulation:
        return "simulated"
    if run.is_historical:
        return "the prices end in the past"
    as_of, issued = late["as_of"].iloc[0], late["issued_at"].max()
    target = late["target_session"].min()
    opened = run.calendar.opens.get(target)
    causes = []
    if run.is_simulated and late["is_new"].any():
        causes.append("this run was given a clock (--now)")
    if opened is not None and issued >= opened:
        causes.append(
            f"issued after {format_day(target)} had opened ({format_moment(opened.to_pydatetime())})"
        )
    if observed_at > issued:
        causes.append(
            f"the newest price was observed afterwards ({format_moment(observed_at.to_pydatetime())})"
        )
    # A member's row that was added to an earlier session later is no cause: the session itself was issued before.
    earlier = record[record["as_of"] < as_of].groupby("as_of")["issued_at"].min()
    if (earlier > issued).any():
        causes.append("forecasts of earlier sessions were issued afterwards")
    said = "; ".join(causes) or "the run that issued them was given a clock (--now)"
    return said if len(late) == len(standing) else f"{len(late):,} of {len(standing):,} are late: {said}"


def explain_never_live(run: Run) -> str:
    """Return why no forecast of a run can be live, in a sentence; empty where they can be."""
    if run.in_simulation:
        return (
            "Simulated by `nextday simulate`: the clock was moved, the settings were chosen knowing what came after, "
            "and nobody sealed these forecasts before the session. They are late, never live."
        )
    if run.is_historical:
        return f"The source {run.source.name!r} is historical: its forecasts are always late, never live."
    if run.is_simulated:
        return "This run was given a clock (--now), so its forecasts are late, never live."
    return ""


def describe_exceptions(rows: pd.DataFrame) -> list[str]:
    """Return a remark on those rows of one session's record that do not count, or not with the others."""
    remarks = []
    if void := describe_void(rows):
        remarks.append(f"{void}. They count in no score.")
    if added := describe_added(rows):
        remarks.append(f"{added}.")
    return remarks
