"""The site of large universes: built anew, with a few changed symbols, and with none; and how large its pages are."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.prices.bar_block import COLUMNS
from pipeline.report.site.build import Built, build_site
from pipeline.report.site.inputs import SiteInputs
from tests.bench.market import names
from tests.bench.stopwatch import Lap, timed
from tests.support.made_site import a_record, a_site_report, site_inputs

pytestmark = pytest.mark.bench

CHANGED = 20


def an_evening(symbols: int, sessions: int) -> SiteInputs:
    """Return an evening after a year of live forecasts, a quarter of them late."""
    listed = names(symbols)
    scores = a_site_report(listed[:5], 20).live_scores  # the evening's own work, which is not timed here
    record = a_record(listed, sessions, late=sessions // 4)
    return site_inputs(a_site_report(listed, record=record, live_scores=scores), min(sessions, 252))


def changed(inputs: SiteInputs) -> SiteInputs:
    """Return the same evening with revised closes of a few symbols."""
    values = inputs.prices.values.copy()
    values[-3, :CHANGED, COLUMNS.index("close")] *= 1.01
    return replace(inputs, prices=replace(inputs.prices, values=values))


def build(inputs: SiteInputs, folder: Path, expected: int) -> Lap:
    made: list[Built] = []
    lap = timed(lambda: made.append(build_site(inputs, folder / "site", folder / "state.json")))
    assert made[0].written == expected
    return lap


@pytest.mark.parametrize(("symbols", "sessions", "most"), [(500, 252, 60), (500, 1260, 60), (2000, 252, 240)])
def test_a_site_is_built_in_seconds_and_its_pages_are_small(
    tmp_path: Path, symbols: int, sessions: int, most: float
) -> None:
    inputs = an_evening(symbols, sessions)
    whole = build(inputs, tmp_path, symbols + 1)
    same = build(inputs, tmp_path, 0)
    few = build(changed(inputs), tmp_path, CHANGED + 1)
    sizes = sorted(path.stat().st_size for path in (tmp_path / "site").rglob("*.html"))
    print(
        f"\n{symbols} symbols x {sessions} sessions: all pages {whole.cpu:.1f} s, {CHANGED} changed {few.cpu:.1f} s, "
        f"none changed {same.cpu:.2f} s of a core; a symbol's page {sizes[len(sizes) // 2] / 1000:.0f} kB, "
        f"the index {sizes[-1] / 1000:.0f} kB, all {sum(sizes) / 1e6:.0f} MB"
    )
    assert whole.cpu <= most
    assert few.cpu <= most / 12
    assert sizes[-1] < 300_000
