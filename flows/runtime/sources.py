"""The configured source of prices, opened."""

from pathlib import Path

from pipeline.config import Config, UniverseConfig
from pipeline.market.calendar import Calendar
from pipeline.prices.ingest.last_reading import LastReading, digest_code, load_reading
from pipeline.sources import PriceSource
from pipeline.storage.paths import expand
from pipeline.storage.workspace import Workspace

__all__ = ["find_reading", "list_symbols", "open_source"]


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


def list_symbols(chosen: UniverseConfig, source: PriceSource, workspace: Workspace) -> list[str]:
    """Return the symbols that the source lists, where the settings name none."""
    if read := find_reading(source, workspace, chosen.name):
        return [*read.symbols]
    # A remote source is asked for its list only where it is needed.
    return source.symbols() if source.is_local or not (chosen.symbols or chosen.file) else []


def open_source(settings: Config, base: Path, workspace: Workspace, days: Calendar) -> PriceSource:
    """Return the configured source of the universe.

    Raises:
        ConfigError: custom code that cannot be used.
    """
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
