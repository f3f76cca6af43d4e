"""The context of a run: its settings, workspace and clock."""

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from flows.runtime.locations import absolute_path, default_config, default_home
from flows.runtime.sources import (
    ContextPart,
    Faults,
    context_calendars,
    open_context,
    open_members,
    open_source,
)
from pipeline.config import SIMULATED, Config, digest
from pipeline.config_file import load
from pipeline.errors import InputError, NextdayError
from pipeline.features.calendar_columns import with_calendar
from pipeline.features.columns import FeatureSet
from pipeline.features.context_columns import with_context
from pipeline.features.custom_features import find_features
from pipeline.features.overnight import with_overnight
from pipeline.features.sector_columns import with_sector
from pipeline.forecasting.custom_model import CheckedModel, find_model
from pipeline.ledger.known_head import ledger_exists
from pipeline.ledger.ledger import Ledger
from pipeline.market.calendar import Calendar, calendar
from pipeline.market.closures import Override, from_rows, read_overrides, to_rows
from pipeline.market.universe import Universe, series_universe
from pipeline.outputs import Output
from pipeline.prices.ingest.fetch_log import FetchLog
from pipeline.prices.location import open_store
from pipeline.prices.store import PriceStore
from pipeline.sources import PriceSource
from pipeline.storage.files import write_text
from pipeline.storage.paths import expand
from pipeline.storage.simulation_note import read_note
from pipeline.storage.workspace import Workspace

__all__ = [
    "Run",
    "configured_calendar",
    "open_run",
    "with_former_settings",
]


@dataclass(frozen=True, eq=False)
class Run:
    """The context of one run, complete before any price is read.

    Attributes:
        config: The settings as read.
        base: The folder that relative paths in the settings refer to.
        workspace: Where all files written at run time are.
        now: When the run started, UTC: it decides which sessions have closed.
        is_simulated: Whether `now` was given instead of read from the wall clock: the source answers with data not
            known at that time, so no row of such a run is ever live.
        calendar, source, universe: As configured.
        resolved: The settings with defaults filled in and the universe's members written out.
        context: The context series of each calendar.
        is_context: Whether its universe is a part of the context series (`of_context`), no constituents.
    """

    config: Config
    base: Path
    workspace: Workspace
    now: datetime
    is_simulated: bool
    calendar: Calendar
    source: PriceSource
    universe: Universe
    resolved: dict[str, Any]
    context: tuple[ContextPart, ...] = ()
    is_context: bool = False

    def clock(self) -> datetime:
        """Return the current time: the wall clock's, or always `now` where it was given. No other clock is read."""
        return self.now if self.is_simulated else datetime.now(UTC)

    @property
    def in_simulation(self) -> bool:
        """Whether the workspace is that of `nextday simulate`; the digest of its settings says so in every row."""
        return bool(self.resolved.get(SIMULATED))

    @property
    def name(self) -> str:
        """The universe's name."""
        return self.config.universe.name

    @property
    def digest(self) -> str:
        """The digest of `resolved`, stored with every forecast."""
        return digest(self.resolved)

    @property
    def is_historical(self) -> bool:
        """Whether the source ended in the past: its forecasts are never live, its prices never stale."""
        return self.source.historical

    def feature_set(
        self,
        name: str = "",
        outputs: Sequence[Output] = (),
        added: Sequence[str] | None = None,
        sectors: Sequence[str] | None = None,
    ) -> FeatureSet:
        """Return the configured feature set, or the named one, with two columns more where a night is forecast.

        Args:
            name: Default: the configured one.
            outputs: What is forecast; default: as configured.
            added: What is added to it, see [features] add; default: as configured.
            sectors: Those that have a column of their own; default: all, and none for a model per symbol.

        Raises:
            ConfigError: it is a custom set, and cannot be found.
        """
        given = outputs or self.config.labels.outputs
        found = find_features(name or self.config.features.set, self.base, given)
        if any(output.part == "overnight" for output in given):
            found = with_overnight(found)
        chosen = self.config.features.add if added is None else added
        if "calendar" in chosen:
            found = with_calendar(found, self.calendar)
        if "sector" in chosen:
            found = with_sector(found, self.universe, self.sectors if sectors is None else sectors)
        return with_context(found, self.config.context.symbols) if "context" in chosen else found

    def of_context(self, part: ContextPart) -> "Run":
        """Return the run that fetches, checks and stores a part of the context series as constituents are."""
        series = series_universe(self.name, part.symbols)
        return replace(
            self, calendar=part.calendar, source=part.source, universe=series, context=(), is_context=True
        )

    @property
    def sectors(self) -> list[str]:
        """The sectors with a column of their own: a model of one symbol alone always reads the same."""
        return self.universe.sectors if self.config.model.scope == "pooled" else []

    def custom_model(self) -> CheckedModel:
        """Return the configured custom model.

        Raises:
            ConfigError: it cannot be found.
        """
        return find_model(self.config.model.kind, self.config.model.options, self.base)

    @property
    def store(self) -> PriceStore:
        """The universe's prices."""
        return open_store(self.workspace, self.config.storage, self.name, self.universe.current_by_instrument)

    @property
    def fetch_log(self) -> FetchLog:
        """The log of fetches and of the quarantine."""
        return FetchLog(self.workspace.fetch_log(self.name))

    @property
    def ledger(self) -> Ledger:
        """The sealed ledger."""
        return Ledger(self.workspace.ledger)

    @cached_property
    def highest_data_version(self) -> int:
        """The highest version of the prices that a sealed row names, read once; 0 before the first.

        Raises:
            LedgerError: sealed rows are lost or changed.
        """
        if not ledger_exists(self.workspace.ledger):
            return 0
        return Ledger(self.workspace.ledger, read_only=True).highest_data_version(self.name)

    def require_whole_ledger(self) -> None:
        """Check that the ledger, if there is one, has every row that was sealed, as it was sealed.

        Raises:
            LedgerError: rows are lost or changed.
        """
        _ = self.highest_data_version  # reading it checks the ledger

    @property
    def today(self) -> pd.Timestamp | None:
        """The current date at the exchange; None where the clock was given: later bars are expected then."""
        if self.is_simulated:
            return None
        return self.calendar.day(self.now)

    @property
    def last_closed(self) -> pd.Timestamp:
        """The last session that counts as closed at `now`."""
        return self.closed_by(self.now)

    def closed_by(self, moment: datetime) -> pd.Timestamp:
        """Return the last session that counts as closed at `moment`."""
        delay = timedelta(minutes=self.config.prices.delay_minutes)
        return self.calendar.last_closed_session(moment, delay, may_have_ended=self.is_historical)

    @property
    def settings_file(self) -> Path:
        """The file with the resolved settings."""
        return _settings_path(self.workspace, self.digest)

    def save_settings(self) -> None:
        """Save the resolved settings under their digest, so that every forecast can be recomputed.

        A file whose content is not that of its digest is replaced.
        """
        path = self.settings_file
        stored = _read_settings(path)
        if not isinstance(stored, dict) or digest(stored) != self.digest:
            write_text(path, json.dumps(self.resolved, indent=1, sort_keys=True) + "\n")


def open_run(
    config: Path | None = None,
    home: Path | None = None,
    now: datetime | None = None,
    *,
    read_only: bool = False,
) -> Run:
    """Read the settings and make everything ready that needs no prices.

    Args:
        config: The configuration file; default: `locations.default_config`.
        home: The workspace; default: `locations.default_home`.
        now: The clock; default: the wall clock. Without an offset it is in the exchange's time.
        read_only: Create no workspace: one with a ledger must exist.

    Raises:
        InputError: the settings, the universe, the files they name or the workspace cannot be used.
        NextdayError: a newer nextday made the workspace.
        LedgerError: `read_only`, and there is no ledger.
    """
    path = absolute_path(config or default_config())
    settings = load(path)
    workspace = Workspace(absolute_path(home or default_home(path))).with_ledger(settings.storage.ledger)
    workspace.check()
    if read_only:
        Ledger(workspace.ledger, read_only=True)
    marked = _mark_simulation(workspace, is_real=now is None and not read_only)
    wall = datetime.now(UTC)
    days = configured_calendar(settings, path.parent, now or wall)
    find_features(settings.features.set, path.parent, settings.labels.outputs)
    if settings.model.is_custom:
        importlib.import_module(
            "curl_cffi.requests"
        )  # a model may bring TensorFlow: see flows.training.load_models
        find_model(settings.model.kind, settings.model.options, path.parent)
    source = open_source(settings, path.parent, workspace, days)
    moment, faults = days.instant(now or wall), Faults()
    context: tuple[ContextPart, ...] = ()
    with faults.collected("[context]"):
        context = open_context(settings, path.parent, workspace, days, source, moment)
    with faults.collected():
        members = open_members(settings, path.parent, source, workspace)
    faults.raise_all()
    if moment > wall and not source.historical:
        raise InputError(
            f"The clock {moment:%Y-%m-%d %H:%M}Z is in the future: unfinished bars would count as final",
            where="--now",
            fix="omit it, or give a past time",
        )
    if not read_only:
        workspace.create()
    return Run(
        config=settings,
        base=path.parent,
        workspace=workspace,
        now=moment,
        is_simulated=now is not None,
        calendar=days,
        source=source,
        universe=members,
        resolved=_resolved(settings, members, days.overrides) | marked,
        context=context,
    )


def _mark_simulation(workspace: Workspace, *, is_real: bool) -> dict[str, Any]:
    """Return what the resolved settings of a simulation hold besides; nothing in a workspace of real evenings."""
    if read_note(workspace.simulation) is None:
        return {}
    if is_real:
        raise InputError(
            "This is the workspace of a simulation, and the run would be one of today",
            where=str(workspace.home),
            fix="name the workspace of your own evenings with --home DIR; `nextday simulate` goes on with a simulation",
        )
    return {SIMULATED: True}


def configured_calendar(settings: Config, base: Path, clock: datetime) -> Calendar:
    """Return the configured calendar, with the overrides of the closures file.

    Args:
        settings: The settings.
        base: The folder that relative paths in the settings refer to.
        clock: The current time, which decides how far the calendar reaches; without an offset it counts as UTC.

    Raises:
        InputError: the calendar or the closures cannot be used.
    """
    chosen = settings.universe
    overrides = read_overrides(base / expand(chosen.closures)) if chosen.closures else ()
    now = clock.replace(tzinfo=clock.tzinfo or UTC)
    return calendar(chosen.calendar, settings.prices.start, now, overrides)


def with_former_settings(run: Run, former: str) -> Run:
    """Return the run with the saved settings of the digest `former`; source, storage and clock stay.

    Raises:
        NextdayError: these settings are not in the workspace, or were changed there.
    """
    path = _settings_path(run.workspace, former)
    resolved = _read_settings(path)
    if resolved is None or digest(resolved) != former:
        raise NextdayError(
            f"The settings {former} are not in the workspace"
            if resolved is None
            else "These settings were changed",
            where=str(path),
            fix="restore that file: a forecast is recomputed with the settings it was made with",
        )
    entries = pd.DataFrame(resolved["members"], columns=["symbol", "first", "last"])
    dates = {name: pd.to_datetime(entries[name]).astype("datetime64[us]") for name in ("first", "last")}
    if "sectors" in resolved:
        entries["sector"] = pd.Series(resolved["sectors"], dtype=object)
    renamed = {symbol: tuple(older) for symbol, older in resolved.get("former", {}).items()}
    members = Universe(run.name, entries.assign(**dates), renamed)
    settings = _former_config(resolved["settings"], path).model_copy(update={"storage": run.config.storage})
    overrides = from_rows(resolved.get("closures", []))
    days = calendar(settings.universe.calendar, settings.prices.start, run.now, overrides)
    series = context_calendars(settings, days, run.now)
    return Run(
        **{
            **{each.name: getattr(run, each.name) for each in fields(run)},
            "config": settings,
            "calendar": days,
            "universe": members,
            "resolved": resolved,
            "context": tuple(ContextPart(names, each, run.source) for each, names in series.items()),
        }
    )


def _former_config(settings: dict[str, Any], path: Path) -> Config:
    try:
        return Config.model_validate(settings)
    except ValueError:
        raise NextdayError(
            "These settings were saved by another version of nextday, and this one does not know all of them",
            where=str(path),
            fix="recompute that forecast with the version of nextday that made it",
        ) from None


def _settings_path(workspace: Workspace, name: str) -> Path:
    return workspace.home / "settings" / f"{name}.json"


def _read_settings(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


def _resolved(settings: Config, members: Universe, overrides: tuple[Override, ...]) -> dict[str, Any]:
    entries = members.entries
    days = [entries[name].dt.strftime("%Y-%m-%d") for name in ("first", "last")]
    spans = zip(
        entries["symbol"], *(day.astype(object).where(day.notna(), None) for day in days), strict=True
    )
    resolved = {"settings": settings.resolved(), "members": [list(span) for span in spans]}
    # Keys added later, and only where they have a value: the digests of older settings stay the same.
    if "sector" in entries:
        resolved["sectors"] = entries["sector"].tolist()
    if members.former:
        resolved["former"] = {symbol: list(older) for symbol, older in members.former.items()}
    if overrides:
        resolved["closures"] = to_rows(overrides)
    return resolved
