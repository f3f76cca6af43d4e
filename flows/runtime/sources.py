"""The configured constituents and context series, and their sources, opened and checked."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from pipeline.config import Config, UniverseConfig
from pipeline.errors import ConfigError, InputError
from pipeline.features.sector_columns import MAX_SECTORS
from pipeline.features.targets import MIN_MEMBERS
from pipeline.formatting import count
from pipeline.market.calendar import Calendar, calendar
from pipeline.market.universe import Universe, series_universe, universe
from pipeline.outputs import NEXT, Output
from pipeline.prices.ingest.last_reading import LastReading, digest_code, load_reading
from pipeline.prices.location import open_store
from pipeline.prices.stored_source import StoredSource
from pipeline.sources import PriceSource
from pipeline.storage.paths import expand
from pipeline.storage.simulation_note import read_note
from pipeline.storage.workspace import Workspace

__all__ = [
    "ContextPart",
    "Faults",
    "context_calendars",
    "find_reading",
    "open_context",
    "open_members",
    "open_source",
    "open_stored",
]

_NAMED: Final = 8
"""Symbols that a message lists."""


@dataclass(frozen=True, eq=False)
class ContextPart:
    """Context series of one calendar.

    Attributes:
        symbols: Their symbols.
        calendar: The sessions of their exchange.
        source: Where they come from.
    """

    symbols: tuple[str, ...]
    calendar: Calendar
    source: PriceSource


class Faults:
    """Gathers errors of the user's input, so that all of them are told at once."""

    def __init__(self) -> None:
        self._found = list[InputError]()

    @contextmanager
    def collected(self, section: str = "[universe]") -> Iterator[None]:
        """Gather an InputError of the block.

        Args:
            section: What the block reads, for sources and calendars name the section [universe].
        """
        try:
            yield
        except _FaultsError as several:
            self._found += several.found
        except InputError as error:
            where, fix = (text.replace("[universe]", section) for text in (error.where, error.fix))
            self._found.append(type(error)(error.what, where=where, fix=fix))

    def raise_all(self) -> None:
        """Raise what was gathered, if anything.

        Raises:
            InputError: the only error, or all of them in one.
        """
        if len(self._found) == 1:
            raise self._found[0]
        if self._found:
            raise _FaultsError(self._found)


class _FaultsError(InputError):
    """Several errors of the user's input in one."""

    def __init__(self, found: Sequence[InputError]) -> None:
        self.found = [*found]
        super().__init__("\n".join(map(str, found)))


def find_reading(source: PriceSource, workspace: Workspace, universe: str) -> LastReading | None:
    """Return what the last run read, if it was from files and they have not changed; None otherwise."""
    from pipeline.sources.files import FilesSource

    found = load_reading(workspace.last_reading(universe)) if isinstance(source, FilesSource) else None
    if found is None or not isinstance(source, FilesSource) or found.code != digest_code():
        return None
    try:
        return found if found.files == source.digest() else None
    except OSError:
        return None  # reading it says what is wrong with it


def _list_symbols(chosen: UniverseConfig, source: PriceSource, workspace: Workspace) -> list[str]:
    """Return the symbols that the source lists, where the settings name none."""
    if read := find_reading(source, workspace, chosen.name):
        return [*read.symbols]
    # A remote source is asked for its list only where it is needed.
    return source.symbols() if source.is_local or not (chosen.symbols or chosen.file) else []


def open_members(settings: Config, base: Path, source: PriceSource, workspace: Workspace) -> Universe:
    """Return the constituents.

    Raises:
        InputError: the list cannot be used, or not with the other settings.
    """
    series = settings.context.symbols
    listed = [
        symbol for symbol in _list_symbols(settings.universe, source, workspace) if symbol not in series
    ]
    members = universe(settings.universe, base, listed)
    if both := sorted(set(series) & set(members.current)):
        raise ConfigError(
            f"{', '.join(both)} cannot be a constituent and a context series",
            where="[universe] file and [context] symbols",
            fix="remove it from one of the two",
        )
    _require_median(settings, members)
    _require_few_sectors(settings, members)
    return members


def _require_median(settings: Config, members: Universe) -> None:
    """Refuse targets against the median of a universe that can never have enough members."""
    relative = [target for target in settings.labels.targets if Output(target, NEXT).is_relative]
    if relative and len(members.symbols) < MIN_MEMBERS:
        raise ConfigError(
            f"The universe {settings.universe.name!r} has {count(len(members.symbols), 'symbol')}, and "
            f"{' and '.join(relative)} compare with the median of at least {MIN_MEMBERS} constituents",
            where="[labels] targets",
            fix=f"leave {' and '.join(relative)} out, or add symbols",
        )


def _require_few_sectors(settings: Config, members: Universe) -> None:
    """Refuse a column that is not one of sectors, for example of names: each value would become an input."""
    if "sector" in settings.features.add and len(members.sectors) > MAX_SECTORS:
        raise ConfigError(
            f"The column {settings.universe.sector!r} has {len(members.sectors):,} different values, and every one "
            "becomes a column of the network",
            where="[universe] sector",
            fix=f"name a column with at most {MAX_SECTORS} different values",
        )


def open_source(settings: Config, base: Path, workspace: Workspace, days: Calendar) -> PriceSource:
    """Return the configured source of the universe; in a simulation, a remote one's bars come from where it says.

    Raises:
        ConfigError: custom code that cannot be used.
        NextdayError: the note of a simulation cannot be read.
    """
    simulation = read_note(workspace.simulation)
    if simulation and simulation.prices:
        return open_stored(settings, base, Workspace(Path(simulation.prices)))
    chosen: UniverseConfig = settings.universe
    if chosen.source == "files":
        from pipeline.sources.files import FilesSource

        return FilesSource(
            base / expand(chosen.path),
            adjustment=settings.prices.adjustment,
            historical=chosen.historical,
            timezone=days.timezone,
            weekdays=days.weekdays,
        )
    if chosen.source == "yahoo":
        from pipeline.sources.yahoo import YahooSource

        workspace.create()
        return YahooSource(
            cache_dir=workspace.cache / "yfinance",
            proxy=settings.prices.proxy,
            ca_bundle=str(base / expand(settings.prices.ca_bundle)) if settings.prices.ca_bundle else "",
            requests_per_second=settings.prices.requests_per_second,
        )
    if chosen.has_custom_source:
        from pipeline.sources.custom import load_source

        return load_source(
            chosen.source,
            base,
            chosen.source_options,
            adjustment=settings.prices.adjustment,
            historical=chosen.historical,
        )
    from pipeline.sources.sample import SampleSource

    return SampleSource()


def open_stored(settings: Config, base: Path, workspace: Workspace) -> StoredSource:
    """Return the stored bars of a workspace's universe and its context series as a source.

    Raises:
        InputError: the list of constituents cannot be used.
    """
    chosen = settings.universe
    renamed = universe(chosen, base, []).current_by_instrument if chosen.file else {}
    series = series_universe(chosen.name, settings.context.symbols).current_by_instrument
    return StoredSource(open_store(workspace, settings.storage, chosen.name, {**renamed, **series}))


def context_calendars(settings: Config, days: Calendar, now: datetime) -> dict[Calendar, tuple[str, ...]]:
    """Return the symbols of the context series by calendar.

    Args:
        settings: The settings.
        days: The universe's calendar.
        now: The current time, which decides how far a calendar reaches.

    Raises:
        ConfigError: a calendar cannot be used.
    """
    chosen, found, faults = settings.context, dict[Calendar, tuple[str, ...]](), Faults()
    for name in dict.fromkeys(map(chosen.calendar_of, chosen.symbols)):
        symbols = tuple(symbol for symbol in chosen.symbols if chosen.calendar_of(symbol) == name)
        if name in ("", days.name):
            found[days] = found.get(days, ()) + symbols
            continue
        with faults.collected("[context]"):
            found[calendar(name, settings.prices.start, now, may_never_close=True)] = symbols
    faults.raise_all()
    return found


def open_context(
    settings: Config, base: Path, workspace: Workspace, days: Calendar, source: PriceSource, now: datetime
) -> tuple[ContextPart, ...]:
    """Return the context series of each calendar, with their source.

    Args:
        settings: The settings.
        base: The folder that relative paths in the settings refer to.
        workspace: The workspace.
        days: The universe's calendar.
        source: The universe's source.
        now: The current time.

    Raises:
        InputError: a calendar or the source cannot be used, or the source does not list a series.
    """
    chosen, faults = settings.context, Faults()
    own = {"source": chosen.source, "source_options": chosen.source_options, "path": chosen.path}
    parts = []
    calendars = (
        {days: chosen.symbols} if chosen.symbols else {}
    )  # the source is checked with those that are known
    with faults.collected():
        calendars = context_calendars(settings, days, now)
    for sessions, symbols in calendars.items():
        opened = source
        with faults.collected("[context]"):
            if chosen.source or (settings.universe.source == "files" and sessions is not days):
                other = settings.universe.model_copy(update=own if chosen.source else {})
                opened = open_source(
                    settings.model_copy(update={"universe": other}), base, workspace, sessions
                )
            _require_listed(opened, symbols)
        parts.append(ContextPart(symbols, sessions, opened))
    faults.raise_all()
    return tuple(parts)


def _require_listed(source: PriceSource, symbols: tuple[str, ...]) -> None:
    """Refuse series that a local source does not have: they would be missing on every session."""
    listed = source.symbols() if source.is_local else [*symbols]
    if lacking := [symbol for symbol in symbols if symbol not in listed]:
        raise InputError(
            f"The source {source.name} has no series {', '.join(lacking)}",
            where="[context] symbols",
            fix=f"it has {', '.join(listed[:_NAMED])}" + (", ..." if len(listed) > _NAMED else ""),
        )
