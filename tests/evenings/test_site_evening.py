"""The site of real evenings: rebuilt by each of them, never at their cost, and from the ledger when it is asked for."""

import re
import shutil
from pathlib import Path

import pytest

from flows import nightly
from flows.evening.publishing import site as site_flow
from flows.evening.publishing.site import rebuild_site
from flows.operations.site_checks import check_site
from flows.runtime.context import open_run
from pipeline.errors import NextdayError
from pipeline.market.calendar import Calendar
from tests.evenings.test_evenings import Place
from tests.support.own_process import EVENING

pytestmark = [pytest.mark.slow, pytest.mark.own_process(*EVENING)]


@pytest.fixture
def place(first_evening: Path, tmp_path: Path, xnys: Calendar) -> Place:
    """Return a place with a champion and the site of its first evening."""
    return Place(shutil.copytree(first_evening, tmp_path / "copy"), xnys)


def test_an_evening_rebuilds_the_site_and_links_it_with_its_report(place: Place) -> None:
    folder = place.home / "reports" / "sample"
    first = (folder / "index.html").read_text()
    assert "none is settled" in first
    evening = place.run("2018-12-11")
    page = evening.paths.site.read_text()
    assert evening.paths.site == folder / "index.html"
    assert "late rows only, no track record" in page
    assert 'href="2018-12-11/report.html"' in page
    assert 'href="2018-12-12/report.html"' in page
    assert evening.report.ledger_head in page
    assert '<a href="../index.html">' in evening.paths.html.read_text()
    rows = place.record()
    symbol = (folder / "symbols" / "_5egspc.html").read_text()
    assert (
        len(re.findall(r'<span class="whole">2018-12-\d\d</span></th>', symbol))
        == (rows["symbol"] == "^GSPC").sum()
        == 2
    )
    assert re.search(r"late, paler:</b> \d right, \d wrong, \d none, 1 open", symbol)
    assert "live:</b>" not in symbol
    run = open_run(place.config, place.home, place.evening("2018-12-11"))
    assert [check.is_passed for check in check_site(run)] == [True]


def test_an_evening_whose_site_cannot_be_built_is_sealed_and_told_and_the_site_comes_when_asked_for(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = place.home / "reports" / "sample" / "index.html"
    page, done = site.read_text(), []

    def fail(*args: object) -> None:
        done.append("site")
        raise NextdayError("Cannot write: No space left on device", where="index.html")

    with monkeypatch.context() as patch:
        patch.setattr(site_flow, "build_site", fail)
        for step in ("track", "publish", "tell"):
            patch.setattr(nightly, step, lambda *given, step=step: done.append(step))
        evening = place.run("2018-12-11")
    assert done == ["track", "publish", "tell", "site"]
    assert evening.new_rows == 2
    assert evening.paths.html.exists()
    assert site.read_text() == page
    run = open_run(place.config, place.home, place.evening("2018-12-11"))
    (check,) = check_site(run)
    assert not check.is_passed
    assert "shows the evening of 2018-12-10, the last forecast is from 2018-12-11" in check.what
    assert check.fix.startswith("nextday site --rebuild")

    # Asked for, it is rebuilt from the ledger: another time there is nothing to do.
    assert rebuild_site(run, whole=False).written == 3
    assert evening.report.ledger_head in site.read_text()
    assert rebuild_site(run, whole=False).written == 0
    assert rebuild_site(run, whole=True).written == 3
    assert [check.is_passed for check in check_site(run)] == [True]
    site.unlink()
    assert [check.is_passed for check in check_site(run)] == [False]
