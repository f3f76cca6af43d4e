"""The report as a browser shows it: on a phone, in the dark, on paper, to a keyboard and to a screen reader."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.report.evening_page import render
from tests.pipeline.evaluation.test_coverage import abstaining
from tests.pipeline.evaluation.test_network_insight import an_insight, moved
from tests.pipeline.report.test_files import AS_OF, a_report, forecasts, open_record, scored, settled_record
from tests.pipeline.report.test_large_page import SIX, a_large_report
from tests.pipeline.report.test_output_tables import a_far_report
from tests.support.chromium import Tab, open_tab

pytestmark = pytest.mark.slow

LONG = "https://a.very.long.example/path/that/breaks/nowhere?x=0123456789abcdef0123456789abcdef"
CONTRAST = 4.5
"""WCAG 2.2, success criterion 1.4.3, level AA."""

TEXT_AND_GROUND = """
[...document.querySelectorAll("main *")].filter(e => e.checkVisibility() &&
  [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) && !e.matches("title, desc, caption"))
.map(e => {
  const style = getComputedStyle(e), ink = e.closest("svg") ? style.fill : style.color;
  let on = e;
  while (on && getComputedStyle(on).backgroundColor === "rgba(0, 0, 0, 0)") on = on.parentElement;
  return [e.textContent.trim().slice(0, 30), ink, getComputedStyle(on).backgroundColor];
})
"""
"""What is written in which colour on which: an element's own, or the nearest ancestor's that has one."""


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with open_tab() as opened:
        yield opened


def a_full_report(*symbols: str) -> Any:
    """Return a report with every figure, table, note and warning that there is."""
    issued = forecasts(*symbols, kind="live", direction=["down", "none", *["up"] * (len(symbols) - 2)])
    findings = {"symbol": [symbols[0]] * 2, "session": [AS_OF, pd.NaT], "rule": "overlap", "detail": LONG}
    return a_report(
        **abstaining(), forecasts=issued, kind="live", historical=False, model_age=87,
        bias="survivorship-biased: 12 of 30 entries of the list have no dates",
        record=pd.concat([settled_record("late"), settled_record("live"), open_record(issued)]),
        live_scores=pd.concat([scored("late"), scored("live")]), findings=pd.DataFrame(findings),
        skipped=pd.DataFrame({"symbol": ["ENRN"], "reason": [f"delisted: {LONG}"]}), notes=[LONG],
        insight=an_insight(), attributions=moved(*symbols),
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    symbols = ("005930.KS", "RDSA.AMS", "BRK-B", "^GSPC", "MC.PA", "AAPL")
    return written(a_full_report(*symbols), tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="module")
def long_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    report = a_full_report(*(f"S{i:03d}" for i in range(500)))
    return written(report, tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="module")
def far_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a page of three horizons."""
    symbols = ("005930.KS", "RDSA.AMS", "BRK-B", "^GSPC", "MC.PA", "AAPL")
    return written(a_far_report(*symbols), tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="module")
def large_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a page of 5,000 symbols with six outputs."""
    return written(a_large_report(5000, SIX), tmp_path_factory.mktemp("page") / "report.html")


def written(report: Any, path: Path) -> Path:
    path.write_text(render(report), encoding="utf-8")
    return path


def contrast(ink: str, ground: str) -> float:
    """Return the contrast ratio of two CSS colours. WCAG 2.2, "relative luminance" and "contrast ratio"."""
    brighter, darker = sorted((luminance(ink), luminance(ground)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def luminance(color: str) -> float:
    share = np.array([float(number) for number in re.findall(r"[\d.]+", color)[:3]]) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def pages(printed: bytes) -> int:
    return len(re.findall(rb"/Type\s*/Page\b", printed))


def test_the_yardstick_of_contrast_is_that_of_the_standard() -> None:
    assert contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)") == pytest.approx(21)
    assert contrast("rgb(118, 118, 118)", "rgb(255, 255, 255)") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
@pytest.mark.parametrize("kind", ["page", "far_page"])
def test_nothing_is_cut_off_and_the_page_never_scrolls_sideways(
    tab: Tab, kind: str, width: int, request: pytest.FixtureRequest
) -> None:
    tab.open(request.getfixturevalue(kind).as_uri(), width=width)
    tab.ask("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert tab.ask("document.documentElement.scrollWidth") == width
    cut = "[...document.querySelectorAll('.scroll:not(.long)')].filter(e => e.scrollWidth > e.clientWidth)"
    assert tab.ask(f"{cut}.map(e => e.innerText.slice(0, 60))") == []


def test_five_hundred_symbols_fit_a_phone(tab: Tab, long_page: Path) -> None:
    tab.open(long_page.as_uri(), width=360)
    assert tab.ask("document.documentElement.scrollWidth") == 360
    assert tab.ask("[...document.querySelectorAll('.sortable')].map(e => e.offsetWidth <= 360)") == [True]


LISTED = "[...document.querySelectorAll('#forecasts tbody tr')].map(e => e.cells[{}].textContent)"


@pytest.mark.parametrize("width", [360, 1280])
def test_five_thousand_symbols_are_found_and_sorted_at_once(tab: Tab, large_page: Path, width: int) -> None:
    tab.open(large_page.as_uri(), width=width)
    assert tab.happened("Log.entryAdded") == tab.happened("Runtime.exceptionThrown") == []
    assert tab.ask("document.documentElement.scrollWidth") == width
    assert tab.ask(
        "[...document.querySelectorAll('.sortable, #forecasts')].every(e => e.offsetWidth <= innerWidth)"
    )
    assert tab.ask("document.getElementById('shown').textContent") == "1–50 of 5,000"
    spent: Any = tab.ask(
        "(() => { const s = document.getElementById('search'), t = performance.now();"
        "for (const text of ['s1', 's12', 's123', 's1234']) { s.value = text; s.oninput(); }"
        "return (performance.now() - t) / 4; })()"
    )
    assert tab.ask(LISTED.format(0)) == ["S1234"]
    tab.ask("{ const s = document.getElementById('search'); s.value = ''; s.oninput(); }")
    spent_sorting: Any = tab.ask(
        "(() => { const t = performance.now(); document.querySelectorAll('#forecasts [role=button]')[2].click();"
        "return performance.now() - t; })()"
    )
    shown = [float(cell.partition("%")[0]) for cell in tab.ask(LISTED.format(2))]
    assert shown == sorted(shown, reverse=True)
    assert len(shown) == 50
    assert spent < 200  # milliseconds per letter
    assert spent_sorting < 500


def test_the_list_of_five_thousand_shows_each_output(tab: Tab, large_page: Path) -> None:
    tab.open(large_page.as_uri())
    assert len(tab.ask("[...document.getElementById('output').options].map(e => e.text)")) == 6
    tab.ask("{ const e = document.getElementById('output'); e.value = '5'; e.onchange({target: e}); }")
    assert {cell[2:] for cell in tab.ask(LISTED.format(1))} <= {"above", "below"}


def test_without_javascript_a_large_page_says_what_it_leaves_out(tab: Tab, large_page: Path) -> None:
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.open(large_page.as_uri())
        tab.call("DOM.enable")
        text = tab.call("Accessibility.getFullAXTree")["nodes"]
    finally:
        tab.call("Emulation.setScriptExecutionDisabled", value=False)
    said = " ".join(node["name"]["value"] for node in text if node.get("name", {}).get("value"))
    assert "The list of all symbols needs JavaScript" in said
    assert "The other 4,950 of 5,000 symbols are in forecast.csv" in said
    assert "Search 5,000 symbols" not in said


def test_a_large_page_prints_both_ends_on_a_few_sheets(tab: Tab, large_page: Path) -> None:
    tab.open(large_page.as_uri())
    assert 3 <= pages(tab.print()) <= 8


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_runs_without_an_error_and_asks_for_nothing_else(tab: Tab, page: Path, dark: bool) -> None:
    tab.open(page.as_uri(), dark=dark)
    assert [asked["request"]["url"] for asked in tab.happened("Network.requestWillBeSent")] == [page.as_uri()]
    assert tab.happened("Log.entryAdded") == tab.happened("Runtime.exceptionThrown") == []
    assert tab.happened("Runtime.consoleAPICalled") == []


def test_dark_and_light_differ(tab: Tab, page: Path) -> None:
    grounds = []
    for dark in (False, True):
        tab.open(page.as_uri(), dark=dark)
        grounds.append(luminance(tab.ask("getComputedStyle(document.body).backgroundColor")))
    assert grounds[0] > 0.8
    assert grounds[1] < 0.05


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_letter_has_enough_contrast(tab: Tab, page: Path, dark: bool, width: int) -> None:
    tab.open(page.as_uri(), dark=dark, width=width)
    tab.ask("document.querySelectorAll('details').forEach(d => d.open = true)")
    letters = tab.ask(TEXT_AND_GROUND)
    assert len(letters) > 300
    weak = [what for what in letters if contrast(what[1], what[2]) < CONTRAST]
    assert weak == []


def test_the_letters_of_a_figure_can_be_read_on_a_phone(tab: Tab, page: Path) -> None:
    tab.open(page.as_uri(), width=360)
    sizes = "[...document.querySelectorAll('svg text')].map(e => e.getBoundingClientRect().height)"
    assert min(tab.ask(sizes)) >= 9


def test_the_keyboard_sorts_the_forecasts(tab: Tab, page: Path) -> None:
    tab.open(page.as_uri())
    symbols = "[...document.querySelectorAll('.sortable tbody th')].map(e => e.textContent)"
    before = tab.ask(symbols)
    tab.ask("document.querySelector('.sortable [role=button]').focus()")
    tab.press("Enter", 13)
    assert tab.ask(symbols) == sorted(before) != before
    tab.press(" ", 32)
    assert tab.ask(symbols) == sorted(before, reverse=True)
    assert tab.ask("document.querySelector('.sortable th').getAttribute('aria-sort')") == "descending"


def test_the_keyboard_sorts_by_a_farther_horizon(tab: Tab, far_page: Path) -> None:
    tab.open(far_page.as_uri())
    tab.ask("document.querySelectorAll('.sortable [role=button]')[3].focus()")
    tab.press("Enter", 13)
    shown = tab.ask(
        "[...document.querySelectorAll('.sortable tbody tr')].map(e => parseFloat(e.cells[3].textContent))"
    )
    assert shown == sorted(shown, reverse=True)
    assert len(set(shown)) == 6


def test_a_screen_reader_hears_every_figure_and_table(tab: Tab, page: Path) -> None:
    tab.open(page.as_uri())
    tree = tab.call("Accessibility.getFullAXTree")["nodes"]
    heard = {kind: [node for node in tree if node["role"]["value"] == kind] for kind in ("image", "table")}
    assert len(heard["image"]) == 11
    assert all(len(node["name"]["value"]) > 10 for node in heard["image"] + heard["table"])
    assert all(re.search(r"\d", node["description"]["value"]) for node in heard["image"])


def test_the_page_prints_on_a_few_sheets(tab: Tab, page: Path, long_page: Path) -> None:
    tab.open(page.as_uri(), dark=True)
    assert 2 <= pages(tab.print()) <= 6
    tab.open(long_page.as_uri())
    assert 8 <= pages(tab.print()) <= 16
    # Chromium repeats a table's head on every sheet, but not one that holds a real button.
    assert tab.ask("document.querySelectorAll('thead button').length") == 0


def test_paper_is_white_even_where_the_screen_is_dark(tab: Tab, page: Path) -> None:
    tab.open(page.as_uri(), dark=True)
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    tab.call("Emulation.setEmulatedMedia", media="print", features=features)
    assert luminance(tab.ask("getComputedStyle(document.body).color")) < 0.05
    assert luminance(tab.ask("getComputedStyle(document.querySelector('.verdict')).backgroundColor")) == 1
