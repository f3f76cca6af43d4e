"""A page's file name: one for each symbol, on every file system, and never outside the folder."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.site.addresses import find_backtest, list_dated, list_site, name_page
from pipeline.schema import SYMBOL_PATTERN
from tests.support.made_site import HOSTILE


def test_a_plain_symbol_is_its_own_name() -> None:
    assert name_page("AAPL") == "aapl.html"
    assert name_page("005930.KS") == "005930_2eks.html"
    assert name_page("BRK/B") == "brk_2fb.html"
    assert name_page("^GSPC") == "_5egspc.html"


@pytest.mark.parametrize("symbol", [*HOSTILE, "..", "", "a\0b", "C:\\x", "\u202eabc", "🚀"])
def test_no_name_leaves_the_folder_or_needs_quoting(symbol: str) -> None:
    assert re.fullmatch(r"[a-z0-9_]*\.html", name_page(symbol))


@pytest.mark.parametrize("device", ["CON", "NUL", "COM1", "LPT9", "AUX", "PRN"])
def test_no_name_is_that_of_a_device(device: str) -> None:
    assert name_page(device) == f"__{device.lower()}.html"


@given(st.lists(st.from_regex(SYMBOL_PATTERN, fullmatch=True), min_size=2, max_size=8, unique=True))
def test_two_symbols_never_share_a_file_even_where_case_does_not_count(symbols: list[str]) -> None:
    names = [name_page(symbol).lower() for symbol in symbols]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 105 for name in names)


def test_the_sites_files_are_its_pages_and_the_evenings_reports_alone(tmp_path: Path) -> None:
    there = [
        "index.html",
        "symbols/aapl.html",
        "2019-01-02/report.html",
        "2019-01-03/report.html",
        "backtest/x/report.html",
    ]
    others = [
        "latest.csv",
        "2019-01-02/forecast.csv",
        "symbols/.aapl.html.123",
        "notes/report.html",
        "2019-01-04/scores.csv",
    ]
    for name in [*there, *others]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in list_site(tmp_path)] == there[:4]
    assert list_dated(tmp_path) == ["2019-01-02", "2019-01-03"]
    assert find_backtest(tmp_path) == "backtest/x/report.html"
    assert find_backtest(tmp_path / "nothing") == ""
