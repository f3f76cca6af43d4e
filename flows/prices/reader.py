"""Read the stored prices of the configured universe; nothing is fetched or locked."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd

from flows.runtime.context import configured_calendar
from flows.runtime.locations import absolute_path, default_config, default_home
from flows.runtime.sources import context_calendars
from pipeline.config import Config
from pipeline.config_file import load
from pipeline.errors import InputError, quoted
from pipeline.market.calendar import Calendar
from pipeline.market.universe import Universe, series_universe, universe
from pipeline.prices.ingest.fetch_log import FetchLog, QuarantineEntry
from pipeline.prices.location import open_store
from pipeline.prices.store import PriceStore
from pipeline.storage.workspace import Workspace

__all__ = ["StoredPrices", "open_stored_prices"]


@dataclass(frozen=True, eq=False)
class StoredPrices:
    """The price store, with the settings, calendar and clock needed to read it.

    Attributes:
        config: The settings as read.
        base: The folder that relative paths in the settings refer to.
        calendar: As configured.
        now: The current time, UTC.
        store: The universe's prices.
        fetch_log: The log of fetches and of the quarantine.
    """

    config: Config
    base: Path
    calendar: Calendar
    now: datetime
    store: PriceStore
    fetch_log: FetchLog

    @property
    def last_closed(self) -> pd.Timestamp:
        """The last session that counts as closed; stored prices can be read after the calendar's end."""
        return self.last_closed_of(self.calendar)

    def last_closed_of(self, days: Calendar) -> pd.Timestamp:
        """Return the same of another calendar."""
        delay = timedelta(minutes=self.config.prices.delay_minutes)
        return days.last_closed_session(self.now, delay, may_have_ended=True)

    def require_bars(self) -> None:
        """Refuse an empty store.

        Raises:
            InputError: nothing is stored.
        """
        if self.store.seq() == 0:
            raise InputError(
                f"There are no prices of the universe {self.config.universe.name!r} yet",
                where=self.store.place,
                fix="`nextday update` fetches them; --home DIR selects another workspace",
            )

    def members(self) -> Universe:
        """Return the universe; where neither a list nor a file names its members, they are all stored symbols."""
        return universe(self.config.universe, self.base, self.symbols())

    def symbols(self) -> list[str]:
        """Return the stored symbols, without the context series."""
        return [symbol for symbol in self.store.symbols() if symbol not in self.config.context.symbols]

    def context(self) -> dict[Calendar, Universe]:
        """Return the stored context series by calendar.

        Raises:
            ConfigError: a calendar cannot be used.
        """
        stored = {*self.store.symbols()}
        parts = context_calendars(self.config, self.calendar, self.now)
        kept = {days: [symbol for symbol in symbols if symbol in stored] for days, symbols in parts.items()}
        return {days: series_universe(self.config.universe.name, each) for days, each in kept.items() if each}

    def release(self, symbol: str) -> QuarantineEntry:
        """Release a symbol from quarantine: the next fetch accepts the source as it is.

        Raises:
            InputError: it is not in quarantine.
            StoreError: the log cannot be written.
        """
        entries = self.fetch_log.quarantined().values()
        found = next((entry for entry in entries if symbol in (entry.symbol, entry.instrument_id)), None)
        if found is None:
            held = ", ".join(sorted(entry.symbol for entry in entries)) or "none"
            raise InputError(
                f"{quoted(symbol)} is not in quarantine",
                where=str(self.fetch_log.place),
                fix=f"in quarantine now: {held}",
            )
        if not found.is_released:
            self.fetch_log.record_quarantine("released", [found], self.now)
        series = series_universe(self.config.universe.name, self.config.context.symbols)
        if found.instrument_id not in (self.members().instruments | series.instruments).values():
            self.fetch_log.record_quarantine("ended", [found], self.now)  # it is not fetched any more
        return found

    def session(self, day: date | None) -> pd.Timestamp | None:
        """Return the session of a date.

        Raises:
            InputError: the date is no session, or it has not closed yet.
        """
        if day is None:
            return None
        session = pd.Timestamp(day)
        self.calendar.position(session)
        if self.calendar.closes[session] > self.now:
            raise _future(f"{day:%Y-%m-%d} has not closed yet", self.now, "--as-of")
        return session

    def instant(self, when: datetime | None) -> datetime | None:
        """Return a time in UTC; without an offset it is in the exchange's time.

        Raises:
            InputError: it is in the future.
        """
        if when is None:
            return None
        moment = self.calendar.instant(when)
        if moment > self.now:
            raise _future(f"{moment:%Y-%m-%d %H:%M} UTC is in the future", self.now, "--known-at")
        return moment


def open_stored_prices(config: Path | None, home: Path | None, now: datetime | None) -> StoredPrices:
    """Open the prices of the configured universe.

    Args:
        config: The configuration file; default: `flows.runtime.locations.default_config`.
        home: The workspace; default: NEXTDAY_HOME, or data/ next to the configuration.
        now: The clock; default: the wall clock. Without an offset it is in the exchange's time.

    Raises:
        InputError: the settings cannot be used.
        NextdayError: a newer nextday made the workspace.
        StoreError: the store cannot be read.
    """
    path = absolute_path(config or default_config())
    settings = load(path)
    workspace = Workspace(absolute_path(home or default_home(path))).with_ledger(settings.storage.ledger)
    workspace.check()
    clock = now or datetime.now(UTC)
    days = configured_calendar(settings, path.parent, clock)
    renamed = (
        universe(settings.universe, path.parent, []).current_by_instrument if settings.universe.file else {}
    )
    series = series_universe(settings.universe.name, settings.context.symbols).current_by_instrument
    store = open_store(workspace, settings.storage, settings.universe.name, renamed | series)
    log = FetchLog(workspace.fetch_log(settings.universe.name))
    return StoredPrices(settings, path.parent, days, days.instant(clock), store, log)


def _future(what: str, now: datetime, option: str) -> InputError:
    return InputError(
        f"{what}: the clock is at {now:%Y-%m-%d %H:%M} UTC",
        where=option,
        fix="omit it, or give a past time",
    )
