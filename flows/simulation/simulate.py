"""Simulate the evenings, trainings and maintenance of a span of sessions: the flows themselves, one after the other."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from flows.maintenance import maintenance
from flows.nightly import Evening, nightly
from flows.runtime.context import Run, open_run
from flows.runtime.progress import PlainProgress, bar, log_line, progress_shown_by
from flows.simulation.checks import Request, check_note
from flows.simulation.timetable import Start, plan_starts
from flows.simulation.training import TrainingProcess
from pipeline.errors import InputError, SourceError
from pipeline.formatting import count, format_percent
from pipeline.memory import return_freed_memory
from pipeline.outputs import select_output
from pipeline.storage.files import hold_lock
from pipeline.storage.simulation_note import SimulationNote, write_note

__all__ = ["Simulated", "simulate"]

_FLOWS: Final[dict[str, Callable[..., object]]] = {
    "nightly": nightly.fn,
    "maintenance": maintenance.fn,
}
"""The functions of the flows beside `retrain`: without a server, which would take longer than an evening's work."""


@dataclass(frozen=True, eq=False)
class Simulated:
    """A simulation that has come to its end.

    Attributes:
        run: A run in its workspace.
        evenings: How many evenings it has.
        evening: The last one that made a forecast.
        failed: The evenings and trainings that this process has seen fail for want of prices, a sentence each.
    """

    run: Run
    evenings: int
    evening: Evening
    failed: list[str]


def simulate(request: Request) -> Simulated:
    """Simulate the evenings of a request, or those that are left of it, and return the last one.

    Every start of [schedule] calls the flow's function with the clock at that start, as `nextday --now` does: the
    ledger is that of evenings run one by one. What has ended is noted, so a simulation that was killed goes on with
    the start that it was at; a flow that is called twice changes nothing the second time. An evening without the prices
    of its session fails as it would have, and the next one catches up.

    Raises:
        InputError: the folder holds another simulation, or one that has come farther than the last session.
        ConfigError: [schedule] has no evening for these sessions.
        WorkspaceBusyError: another process simulates in this folder.
        SourceError: no evening had the prices of its session.
        NextdayError: a flow failed for another reason.
    """
    workspace, note = request.workspace, request.note
    prices = str(request.prices) if request.prices else ""
    if note is None:
        note = SimulationNote("", "", f"{request.first:%Y-%m-%d}", prices)
        write_note(workspace.simulation, note)  # first of all: from here on the folder is a simulation's
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
    evening, failed = None, list[SourceError]()
    with TrainingProcess() as trainings, bar("simulate", to_do) as advance:
        flows: dict[str, Callable[..., object]] = {**_FLOWS, "retrain": trainings.retrain}
        for start in left:
            try:
                with progress_shown_by(PlainProgress()):
                    result = flows[start.flow](config=request.config, home=run.workspace.home, now=start.at)
            except SourceError as error:
                result = error
            note = replace(note, done=start.at.isoformat())
            write_note(run.workspace.simulation, note)
            if line := _describe_news(start, result, evening):
                log_line(line)
            if isinstance(result, Evening):
                evening = result
            elif isinstance(result, SourceError):
                failed.append(result)
            if start.flow == "nightly":
                advance(_describe_record(start, evening))
            return_freed_memory()
    if evening is None:
        raise failed[-1]
    return Simulated(run, evenings, evening, [error.what for error in failed])


def _describe_news(start: Start, result: object, before: Evening | None) -> str:
    """Return what is worth a line: a failure, a training, a change of champion; else empty."""
    if isinstance(result, SourceError):
        return f"{start.at:%Y-%m-%d}: {start.flow} failed: {result.what}"
    if start.flow == "retrain" and result:
        return f"{start.at:%Y-%m-%d}: {result}"
    if isinstance(result, Evening):
        model, former = result.report.model, before.report.model["version"] if before else ""
        if model["version"] != former:
            return f"{result.report.as_of:%Y-%m-%d}: {model['version']} serves: {model['serves because']}"
    return ""


def _describe_record(start: Start, evening: Evening | None) -> str:
    """Return the day of an evening and the hit rate of the record so far, for the progress."""
    if evening is None:
        return f"{start.at:%Y-%m-%d}"
    report = evening.report
    rows = select_output(report.record, report.outputs[0])
    above, below, _ = report.outputs[0].directions
    called = rows[rows["outcome"].notna() & rows["direction"].isin([above, below])]
    rate = ((called["direction"] == above) == (called["outcome"] == 1.0)).mean()
    record = f"  hit rate {format_percent(rate)} of {len(called):,}" if len(called) else ""
    return f"{start.at:%Y-%m-%d}{record}"
