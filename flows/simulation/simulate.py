"""Simulate the evenings, trainings and maintenance of a span of sessions: the flows themselves, one after the other."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from flows.evening.retraining import Retrained
from flows.maintenance import maintenance
from flows.nightly import Evening, nightly
from flows.retrain import retrain
from flows.runtime.context import Run, open_run
from flows.runtime.progress import PlainProgress, bar, log_line, progress_shown_by
from flows.simulation.checks import Request, check_note
from flows.simulation.timetable import Start, plan_starts
from pipeline.errors import InputError
from pipeline.formatting import count, format_percent
from pipeline.memory import return_freed_memory
from pipeline.outputs import select_output
from pipeline.report.evening_report import Report
from pipeline.storage.files import hold_lock
from pipeline.storage.simulation_note import SimulationNote, write_note

__all__ = ["Simulated", "simulate"]

_FLOWS: Final[dict[str, Callable[..., Any]]] = {
    "nightly": nightly.fn,
    "retrain": retrain.fn,
    "maintenance": maintenance.fn,
}
"""The functions of the flows: without a server, which would take longer than an evening's work."""


@dataclass(frozen=True, eq=False)
class Simulated:
    """A simulation that has come to its end.

    Attributes:
        run: A run in its workspace.
        evenings: How many evenings it has.
        evening: The last one.
    """

    run: Run
    evenings: int
    evening: Evening


def simulate(request: Request) -> Simulated:
    """Simulate the evenings of a request, or those that are left of it, and return the last one.

    Every start of [schedule] calls the flow's function with the clock at that start, as `nextday --now` does: the
    ledger is that of evenings run one by one. What has ended is noted, so a simulation that was killed goes on with
    the start that it was at; a flow that is called twice changes nothing the second time.

    Raises:
        InputError: the folder holds another simulation, or one that has come farther than the last session.
        ConfigError: [schedule] has no evening for these sessions.
        WorkspaceBusyError: another process simulates in this folder.
        NextdayError: an evening failed, as it would have; the message is the flow's.
    """
    workspace, note = request.workspace, request.note
    prices = str(request.prices) if request.prices else ""
    if note is None:
        note = SimulationNote("", "", f"{request.first:%Y-%m-%d}", prices)
        write_note(
            workspace.simulation, note
        )  # before anything else: from here on the folder is a simulation's
    run = open_run(request.config, workspace.home, datetime.now(UTC))
    check_note(request, run)
    with hold_lock(workspace.home / "locks" / "simulation.lock", 0, "this simulation"):
        note = replace(note, universe=run.name, settings=run.digest)
        starts = plan_starts(run, request.first, request.last)
        _require_ahead(note, starts, run)
        return _run_starts(request, run, note, starts)


def _require_ahead(note: SimulationNote, starts: list[Start], run: Run) -> None:
    if note.done_at and note.done_at > starts[-1].at:
        raise InputError(
            f"This simulation has come to {note.done_at:%Y-%m-%d} already, beyond the session of --to",
            where=str(run.workspace.home),
            fix="give a later --to, or name another folder with --into",
        )


def _run_starts(request: Request, run: Run, note: SimulationNote, starts: list[Start]) -> Simulated:
    """Run what is left of the starts; where nothing is, the last evening again, which changes nothing."""
    left = [start for start in starts if not note.done_at or start.at > note.done_at] or starts[-1:]
    evenings, to_do = (sum(start.flow == "nightly" for start in each) for each in (starts, left))
    if to_do < evenings:
        log_line(f"{evenings - to_do} of {count(evenings, 'evening')} were simulated before: going on")
    serving = ""
    with bar("simulate", to_do) as advance:
        for start in left:
            with progress_shown_by(PlainProgress()):
                result = _FLOWS[start.flow](config=request.config, home=run.workspace.home, now=start.at)
            note = replace(note, done=start.at.isoformat())
            write_note(run.workspace.simulation, note)
            if isinstance(result, Evening):
                evening, version = result, str(result.report.model["version"])
                if version != serving:
                    log_line(
                        f"{result.report.as_of:%Y-%m-%d}: {version} serves: {result.report.model['serves because']}"
                    )
                serving = version
                advance(_describe(result.report))
            elif isinstance(result, Retrained) and result.evaluation:
                log_line(f"{start.at:%Y-%m-%d}: {result.sentence}")
            return_freed_memory()
    return Simulated(run, evenings, evening)


def _describe(report: Report) -> str:
    """Return the session of an evening and the hit rate of the record so far, for the progress."""
    rows = select_output(report.record, report.outputs[0])
    above, below, _ = report.outputs[0].directions
    called = rows[rows["outcome"].notna() & rows["direction"].isin([above, below])]
    rate = ((called["direction"] == above) == (called["outcome"] == 1.0)).mean()
    record = f"  hit rate {format_percent(rate)} of {len(called):,}" if len(called) else ""
    return f"{report.as_of:%Y-%m-%d}{record}"
