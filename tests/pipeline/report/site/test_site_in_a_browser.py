"""The site as a browser shows it: on a phone, in the dark, on paper, with two thousand symbols and hostile names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.outputs import MAIN, Output, select_output
from pipeline.report.site.addresses import name_page
from pipeline.report.site.build import build_site
from tests.pipeline.report.test_page_in_a_browser import CONTRAST, TEXT_AND_GROUND, contrast, luminance, pages
from tests.support.chromium import Tab, open_tab
from tests.support.made_site import HOSTILE, a_record, a_site_report, site_inputs

pytestmark = pytest.mark.slow

SYMBOLS = [
    "AAPL",
    "BRK/B",
    "MSFT",
    "^GSPC",
    "005930.KS",
    *HOSTILE[:3],
    *(f"S{number:03d}" for number in range(60)),
]
OUTPUTS = (MAIN, Output("relative", 1))
MANY = tuple(Output(target, horizon) for target in ("direction", "relative") for horizon in (1, 2, 5))
LONG = "https://a.very.long.example/path/that/breaks/nowhere?x=0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with open_tab() as opened:
        yield opened


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a site with everything that there can be."""
    folder = tmp_path_factory.mktemp("site") / "sample"
    record = a_record(SYMBOLS, 130, late=65, outputs=OUTPUTS)
    findings = pd.DataFrame(
        {"symbol": SYMBOLS[:1], "session": [pd.NaT], "rule": ["overlap"], "detail": [LONG]}
    )
    skipped = pd.DataFrame({"symbol": ["ENRN"], "reason": [f"delisted: {LONG}"]})
    report = a_site_report(SYMBOLS, record=record, findings=findings, skipped=skipped)
    build_site(site_inputs(report, 130), folder, folder.parent / "state.json")
    return folder


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the index of two thousand symbols with six outputs."""
    folder = tmp_path_factory.mktemp("large") / "sample"
    symbols = [f"S{number:04d}" for number in range(2000)]
    scores = a_site_report(symbols[:5], 12, outputs=MANY).live_scores
    report = a_site_report(symbols, record=a_record(symbols, 12, outputs=MANY), live_scores=scores)
    build_site(site_inputs(report, 12), folder, folder.parent / "state.json")
    return folder / "index.html"


def address(site: Path, page: str) -> str:
    path = site / "index.html" if page == "index" else site / "symbols" / name_page(page)
    return path.as_uri()


both = pytest.mark.parametrize("page", ["index", "AAPL", HOSTILE[1]], ids=["index", "symbol", "hostile"])
ROWS = "[...document.querySelectorAll('#forecasts tbody tr')].map(e => e.cells[{}].textContent)"


@both
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_cut_off_and_no_page_scrolls_sideways(tab: Tab, site: Path, page: str, width: int) -> None:
    tab.open(address(site, page), width=width)
    tab.ask("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert tab.ask("document.documentElement.scrollWidth") == width
    cut = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth)"
    assert tab.ask(f"{cut}.map(e => e.innerText.slice(0, 60))") == []


@both
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_page_runs_without_an_error_and_asks_for_nothing_else(
    tab: Tab, site: Path, page: str, dark: bool
) -> None:
    tab.open(address(site, page), dark=dark)
    assert [asked["request"]["url"] for asked in tab.happened("Network.requestWillBeSent")] == [
        address(site, page)
    ]
    assert tab.happened("Log.entryAdded") == tab.happened("Runtime.exceptionThrown") == []
    assert tab.happened("Runtime.consoleAPICalled") == tab.happened("Page.javascriptDialogOpening") == []


@both
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_letter_has_enough_contrast(tab: Tab, site: Path, page: str, dark: bool) -> None:
    tab.open(address(site, page), dark=dark)
    tab.ask("document.querySelectorAll('details').forEach(d => d.open = true)")
    letters = tab.ask(TEXT_AND_GROUND)
    assert len(letters) > 80
    assert [what for what in letters if contrast(what[1], what[2]) < CONTRAST] == []


def test_hostile_names_are_read_and_never_run(tab: Tab, site: Path) -> None:
    tab.open(address(site, "index"))
    for name in HOSTILE[:3]:
        tab.ask(
            f"document.getElementById('search').value = {name!r}; document.getElementById('search').oninput()"
        )
        assert tab.ask(ROWS.format(0)) == [name]
    assert tab.ask("document.querySelectorAll('img').length") == 0
    assert tab.ask("[...document.querySelectorAll('#forecasts a')].map(e => e.href)") == [
        address(site, HOSTILE[2])
    ]
    tab.open(address(site, HOSTILE[1]))
    assert tab.ask("document.querySelector('h1').textContent") == HOSTILE[1]


def test_the_table_is_searched_sorted_and_paged(tab: Tab, site: Path) -> None:
    tab.open(address(site, "index"))
    assert len(tab.ask(ROWS.format(0))) == 50
    assert tab.ask("document.getElementById('shown').textContent") == f"1–50 of {len(SYMBOLS)}"
    tab.ask("document.getElementById('after').click()")
    assert len(tab.ask(ROWS.format(0))) == len(SYMBOLS) - 50
    tab.ask("document.querySelector('#forecasts [role=button]').focus()")
    tab.press("Enter", 13)
    assert tab.ask(ROWS.format(0)) == sorted(SYMBOLS)[:50]
    tab.ask("document.querySelectorAll('#forecasts [role=button]')[2].click()")
    shown = [float(cell.partition("%")[0]) for cell in tab.ask(ROWS.format(2))]
    assert shown == sorted(shown, reverse=True)
    tab.ask("{ const e = document.getElementById('side'); e.value = 'down'; e.onchange(); }")
    assert {cell[2:] for cell in tab.ask(ROWS.format(1))} == {"down"}


def test_the_table_shows_each_output(tab: Tab, site: Path) -> None:
    tab.open(address(site, "index"))
    before = tab.ask(ROWS.format(2))
    tab.ask("{ const e = document.getElementById('output'); e.value = '1'; e.onchange({target: e}); }")
    assert tab.ask(ROWS.format(2)) != before
    assert {cell[2:] for cell in tab.ask(ROWS.format(1))} <= {"above", "below"}


def test_the_table_reads_what_the_page_was_made_of(tab: Tab, site: Path) -> None:
    report = a_site_report(SYMBOLS, record=a_record(SYMBOLS, 130, late=65, outputs=OUTPUTS))
    rows = select_output(report.forecasts, MAIN).set_index("symbol")
    tab.open(address(site, "index"))
    tab.ask("document.getElementById('after').click()")
    for name, forecast, base, points in zip(*(tab.ask(ROWS.format(at)) for at in (0, 2, 3, 4)), strict=True):
        row = rows.loc[name]
        p, inside = row["p_up"], row["low"] <= row["baseline_p_up"] <= row["high"]
        band = f"{100 * row['low']:.1f}–{100 * row['high']:.1f}%"
        assert forecast == f"{p:.1%} {band}"
        assert base == f"{'≈ ' if inside else ''}{row['baseline_p_up']:.1%}"
        assert float(points.removesuffix(" pp")) == pytest.approx(
            100 * (p - row["baseline_p_up"]), abs=0.0501
        )
    last = report.last_call
    assert tab.ask(ROWS.format(6)) == [last[name] for name in tab.ask(ROWS.format(0))]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("width", "least"), [(360, 2.0), (1200, 7.0)])
def test_candles_are_wide_enough_to_be_read(
    tab: Tab, site: Path, width: int, least: float, dark: bool
) -> None:
    tab.open(address(site, "AAPL"), width=width, dark=dark)
    plot = "document.querySelector('[aria-label^=Candles] svg')"
    bodies = f"[...{plot}.querySelectorAll('.rise, .fall')]"
    assert (
        tab.ask(f"{bodies}.map(e => e.getAttribute('d').split('Z').length - 1).reduce((a, b) => a + b)") == 60
    )
    assert tab.ask(f"{plot}.getBoundingClientRect().width * 0.62 / 61") > least
    fills = tab.ask(f"{bodies}.map(e => getComputedStyle(e).fill)")
    assert len({*fills}) == 2


def test_two_thousand_symbols_are_found_at_once(tab: Tab, large: Path) -> None:
    assert large.stat().st_size < 300_000
    tab.open(large.as_uri(), width=360)
    assert tab.ask("document.documentElement.scrollWidth") == 360
    spent: Any = tab.ask(
        "(() => { const s = document.getElementById('search'), t = performance.now();"
        "for (const text of ['s1', 's12', 's123', 's1234']) { s.value = text; s.oninput(); }"
        "return (performance.now() - t) / 4; })()"
    )
    assert tab.ask(ROWS.format(0)) == ["S1234"]
    assert spent < 200  # milliseconds per letter


def test_a_screen_reader_hears_every_plot(tab: Tab, site: Path) -> None:
    tab.open(address(site, "AAPL"))
    tree = tab.call("Accessibility.getFullAXTree")["nodes"]
    images = [node for node in tree if node["role"]["value"] in ("image", "img")]
    assert len(images) == 3
    assert all("AAPL" in node["name"]["value"] for node in images)
    assert all(any(sign.isdigit() for sign in node["description"]["value"]) for node in images)


def test_paper_is_white_and_takes_a_few_sheets(tab: Tab, site: Path) -> None:
    tab.open(address(site, "AAPL"), dark=True)
    assert 1 <= pages(tab.print()) <= 4
    tab.open(address(site, "index"), dark=True)
    assert 3 <= pages(tab.print()) <= 9
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    tab.call("Emulation.setEmulatedMedia", media="print", features=features)
    assert luminance(tab.ask("getComputedStyle(document.body).color")) < 0.05
