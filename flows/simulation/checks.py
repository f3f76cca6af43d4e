"""What a simulation needs before its first evening: dates with prices, history enough, and a folder of its own."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd

from flows.runtime.context import Run, configured_calendar
from flows.runtime.locations import absolute_path, default_config, default_home
from flows.runtime.sources import Faults, open_source, open_stored
from pipeline.config import Config
from pipeline.config_file import load
from pipeline.errors import InputError
from pipeline.features.custom_features import find_features
from pipeline.forecasting.ranges import MIN_TRAIN
from pipeline.market.calendar import Calendar
from pipeline.sources import PriceSource
from pipeline.storage.simulation_note import SimulationNote, read_note
from pipeline.storage.workspace import Workspace

__all__ = ["Request", "check_note", "check_request"]


@dataclass(frozen=True)
class Request:
    """A simulation that was asked for, and can be begun.

    Attributes:
        config: The settings file.
        workspace: Its own workspace.
        first: The session of its first evening.
        last: The session of its last evening.
        prices: The workspace whose stored prices are read; None: the configured source is read.
        note: Of the same simulation, begun before; None for a new one.
    """

    config: Path
    workspace: Workspace
    first: pd.Timestamp
    last: pd.Timestamp
    prices: Path | None
    note: SimulationNote | None


def check_request(config: Path | None, home: Path | None, into: Path, first: date, last: date) -> Request:
    """Return the request, after checking that its evenings can be simulated; nothing is written.

    Args:
        config: The settings file; default: `locations.default_config`.
        home: The workspace of the real evenings, whose stored prices stand for those of a remote source.
        into: The folder of the simulation.
        first: The session of the first evening.
        last: The session of the last evening.

    Raises:
        InputError: with everything that is wrong with folder, dates and prices.
    """
    path = absolute_path(config or default_config())
    settings = load(path)
    own, workspace = absolute_path(home or default_home(path)), Workspace(absolute_path(into))
    days = configured_calendar(settings, path.parent, datetime.now(UTC))
    begins, ends = pd.Timestamp(first), pd.Timestamp(last)
    faults, note, prices = Faults(), None, None
    with faults.collected():
        note = _check_folder(workspace, own)
    for day, option in ((begins, "--from"), (ends, "--to")):
        with faults.collected():
            _check_session(days, day, option)
    with faults.collected():
        if begins > ends:
            raise InputError(
                f"The first session, {begins:%Y-%m-%d}, is after the last one, {ends:%Y-%m-%d}",
                where="--from and --to",
                fix="exchange the two",
            )
    with faults.collected():
        source = _open(settings, path.parent, Workspace(own), days)
        prices = None if source.is_local else own
        _check_prices(settings, path.parent, days, source, begins, ends)
    faults.raise_all()
    return Request(path, workspace, begins, ends, prices, note)


def check_note(request: Request, run: Run) -> None:
    """Refuse to go on with a simulation of other settings or another beginning.

    Args:
        request: The request.
        run: A run in its workspace.

    Raises:
        InputError: what differs.
    """
    note, differs = request.note, list[str]()
    if note is None or not note.settings:  # it was killed before it had read them
        return
    if note.begins != f"{request.first:%Y-%m-%d}":
        differs.append(f"begins with the evening of {note.begins}")
    if (note.universe, note.settings) != (run.name, run.digest):
        differs.append("was made with other settings or constituents")
    if differs:
        raise InputError(
            f"The simulation in this folder {' and '.join(differs)}",
            where=str(request.workspace.home),
            fix="go on with the same --from and settings (--to may be later), or name another folder with --into",
        )


def _check_folder(workspace: Workspace, own: Path) -> SimulationNote | None:
    """Return the note of a simulation that was begun in the folder; refuse any other folder that is not empty."""
    folder, fix = (
        workspace.home,
        "name an empty or new folder with --into DIR; it becomes the simulation's workspace",
    )
    workspace.check()
    note = read_note(workspace.simulation)
    if note:
        return note
    if folder.is_relative_to(own) or workspace.marker.exists() or workspace.ledger_file.exists():
        raise InputError(
            "This folder belongs to a workspace of real evenings, and is no place to simulate some",
            where=str(folder),
            fix=fix,
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("This folder is not empty, and holds no simulation", where=str(folder), fix=fix)
    return None


def _check_session(days: Calendar, day: pd.Timestamp, option: str) -> None:
    try:
        days.position(day)
    except InputError as error:
        raise InputError(error.what, where=f"{option}; {error.where}", fix=error.fix) from None


def _open(settings: Config, base: Path, own: Workspace, days: Calendar) -> PriceSource:
    """Return the source of the simulated evenings: the configured one, or what is stored of a remote one."""
    if settings.universe.source != "yahoo":
        source = open_source(settings, base, own, days)
        if source.is_local:
            return source
    return open_stored(settings, base, own)


def _check_prices(
    settings: Config,
    base: Path,
    days: Calendar,
    source: PriceSource,
    begins: pd.Timestamp,
    ends: pd.Timestamp,
) -> None:
    """Refuse sessions without prices, or with too little history before them to train on.

    Raises:
        InputError: which of the two, and the dates that are possible.
    """
    chosen, now = settings.universe, datetime.now(UTC)
    closed = days.last_closed_session(
        now, timedelta(minutes=settings.prices.delay_minutes), may_have_ended=True
    )
    listed = chosen.symbols or source.symbols()
    answers = [source.fetch(symbol, pd.Timestamp(settings.prices.start), closed, now) for symbol in listed]
    bars = [answer.bars["session"] for answer in answers if answer.outcome == "ok" and len(answer.bars)]
    if not bars:
        raise InputError(
            f"There are no prices of the universe {chosen.name!r} to simulate with",
            where="[universe] and [prices] start" if source.is_local else str(base),
            fix="correct them" if source.is_local else "`nextday update` fetches and stores them",
        )
    known = days.sessions_between(min(each.min() for each in bars), max(each.max() for each in bars))
    least = _count_least(settings, base)
    if len(known) < least:
        raise InputError(
            f"Only {len(known):,} sessions have prices, and a training takes {least:,}",
            where="[prices] start, [evaluation], [training]",
            fix="a longer history, or shorter ranges",
        )
    if ends > known[-1]:
        raise InputError(
            f"The prices end on {known[-1]:%Y-%m-%d}, before {ends:%Y-%m-%d}",
            where="--to",
            fix=f"simulate to {known[-1]:%Y-%m-%d} at the latest",
        )
    if begins < known[least - 1]:
        raise InputError(
            f"The first training needs {least:,} sessions of prices up to {begins:%Y-%m-%d}, and there are "
            f"{int((known <= begins).sum()):,}",
            where="--from",
            fix=f"simulate from {known[least - 1]:%Y-%m-%d} on, or fetch a longer history ([prices] start)",
        )


def _count_least(settings: Config, base: Path) -> int:
    """Return the sessions that a training takes at least: what its features look back on, and its ranges."""
    gap, training = max(settings.labels.horizons), settings.training
    tested = settings.evaluation.test_sessions if settings.evaluation.test_end is None else 0
    ranges = MIN_TRAIN + training.stop_sessions + training.calibrate_sessions + tested + 4 * gap
    features = find_features(settings.features.set, base, settings.labels.outputs)
    return ranges + features.reach
