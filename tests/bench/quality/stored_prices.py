"""Real prices, stored as an evening would store them."""

from pathlib import Path

import pandas as pd

from flows.runtime.context import Run, open_run
from pipeline.prices.ingest.quality import check
from tests.conftest import NOW

__all__ = ["open_stored"]


def open_stored(folder: Path, settings: str, end: pd.Timestamp) -> Run:
    """Write the settings into a folder, and store the prices of their source up to `end` where there are none yet."""
    (folder / "nextday.toml").write_text(settings)
    run = open_run(folder / "nextday.toml", folder / "data", NOW)
    if run.store.seq() == 0:
        first = run.calendar.sessions[0]
        bars = [run.source.fetch(symbol, first, end, NOW) for symbol in run.universe.symbols]
        run.store.append(
            check(bars, run.calendar, end, source=run.source.name, historical=True).prices, run="bench"
        )
    return run
