"""A site is rebuilt as far as its inputs changed, says only what they say, and shows every name as text."""

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.outputs import MAIN, Output
from pipeline.prices.bar_block import COLUMNS, Block
from pipeline.report.evening_report import Report
from pipeline.report.site.addresses import name_page
from pipeline.report.site.build import Built, State, build_site, read_state
from pipeline.report.site.inputs import SiteInputs
from tests.support.made_site import HOSTILE, a_record, a_site_report, site_inputs

SYMBOLS = ["AAPL", "BRK/B", "MSFT", "^GSPC"]


@cache
def the_report(sessions: int) -> Report:
    return a_site_report(SYMBOLS, sessions, late=5)


def an_evening(sessions: int = 40, **fields: Any) -> SiteInputs:
    return site_inputs(the_report(sessions), sessions, **fields)


def built(inputs: SiteInputs, folder: Path) -> Built:
    return build_site(inputs, folder / "sample", folder / "cache" / "sample.site.json")


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "sample").rglob("*.html")}


def with_close(prices: Block, symbol: str, close: float) -> Block:
    values = prices.values.copy()
    values[-3, prices.symbols.index(symbol), COLUMNS.index("close")] = close
    return replace(prices, values=values)


def test_the_first_build_writes_every_page(tmp_path: Path) -> None:
    made = built(an_evening(), tmp_path)
    assert (made.written, made.pages) == (5, 5)
    names = {path.name for path in (tmp_path / "sample" / "symbols").iterdir()}
    assert names == {"aapl.html", "brk_2fb.html", "msft.html", "_5egspc.html"}
    assert read_state(tmp_path / "cache" / "sample.site.json").as_of == "2018-12-31"


def test_a_second_build_of_the_same_writes_nothing(tmp_path: Path) -> None:
    built(an_evening(), tmp_path)
    before = times(tmp_path)
    assert built(an_evening(), tmp_path).written == 0
    assert times(tmp_path) == before


def test_a_price_that_changed_changes_one_page_and_the_index(tmp_path: Path) -> None:
    evening = an_evening()
    built(evening, tmp_path)
    before = times(tmp_path)
    made = built(replace(evening, prices=with_close(evening.prices, "MSFT", 90.0)), tmp_path)
    assert made.written == 2
    after = times(tmp_path)
    assert {name for name in after if after[name] != before[name]} == {"msft.html", "index.html"}


def test_a_new_outcome_changes_every_page_for_it_changes_the_universes_numbers(tmp_path: Path) -> None:
    built(an_evening(40), tmp_path)
    assert built(an_evening(41), tmp_path).written == 5


@pytest.mark.parametrize("damage", ["empty", "gone", "longer"])
def test_a_page_that_is_not_whole_is_written_again(tmp_path: Path, damage: str) -> None:
    """A power cut may leave an empty page whose inputs are known to be written."""
    built(an_evening(), tmp_path)
    page = tmp_path / "sample" / "symbols" / "aapl.html"
    whole = page.read_bytes()
    if damage == "gone":
        page.unlink()
    else:
        page.write_bytes(b"" if damage == "empty" else whole + b"x")
    assert built(an_evening(), tmp_path).written == 2  # the index is of the whole, and cheap
    assert page.read_bytes() == whole


def test_a_damaged_state_builds_everything(tmp_path: Path) -> None:
    built(an_evening(), tmp_path)
    for text in ("", "{}", "[1]", '{"as_of": 1, "key": 2, "pages": {"a": 3}}', "\0"):
        (tmp_path / "cache" / "sample.site.json").write_text(text)
        assert read_state(tmp_path / "cache" / "sample.site.json") == State()
    assert built(an_evening(), tmp_path).written == 5


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        built(an_evening(), tmp_path / name)
    pages = [sorted((tmp_path / name).rglob("*.html")) for name in ("a", "b")]
    assert [path.read_bytes() for path in pages[0]] == [path.read_bytes() for path in pages[1]]


def test_a_page_without_a_listing_is_removed_and_other_files_stay(tmp_path: Path) -> None:
    built(an_evening(), tmp_path)
    folder = tmp_path / "sample"
    (folder / "symbols" / "gone.html").write_text("a page of a symbol that was forecast in another ledger")
    (folder / "latest.csv").write_text("kept")
    built(an_evening(41), tmp_path)
    assert not (folder / "symbols" / "gone.html").exists()
    assert (folder / "latest.csv").exists()


def test_a_listing_that_has_left_keeps_its_page_and_last_rows(tmp_path: Path) -> None:
    record = a_record(["AAPL", "ENRN"], 60)
    days = record["as_of"].drop_duplicates()
    record = record[(record["symbol"] == "AAPL") | (record["as_of"] <= days.iloc[20])]
    report = a_site_report(["AAPL"], record=record)
    made = built(site_inputs(report, 10), tmp_path)
    page = (tmp_path / "sample" / "symbols" / "enrn.html").read_text()
    assert made.pages == 3
    assert page.count('<th scope="row"><span class="whole">20') == 20
    assert "No forecast on" in page


def test_a_constituent_without_a_forecast_has_a_page_with_the_reason(tmp_path: Path) -> None:
    skipped = pd.DataFrame({"symbol": ["NEWC"], "reason": ["its history has a gap"]})
    built(site_inputs(a_site_report(SYMBOLS, 30, skipped=skipped), 30), tmp_path)
    assert "its history has a gap" in (tmp_path / "sample" / "symbols" / "newc.html").read_text()
    assert "its history has a gap (1)" in (tmp_path / "sample" / "index.html").read_text()


def test_a_renamed_listing_has_one_page(tmp_path: Path) -> None:
    inputs = site_inputs(a_site_report(SYMBOLS, 30), 30, current={"MSFT": "MSFX"})
    built(inputs, tmp_path)
    names = {path.name for path in (tmp_path / "sample" / "symbols").iterdir()}
    assert "msfx.html" in names
    assert "msft.html" not in names
    page = (tmp_path / "sample" / "index.html").read_text()
    table = json.loads(page.split('id="rows">')[1].split("</script>")[0])
    assert "MSFX" in table["symbols"]
    assert str(table["symbols"].index("MSFX")) not in table["files"]  # it is the symbol in small letters


def test_a_symbols_page_shows_its_price_calls_record_and_reasons(tmp_path: Path) -> None:
    report = a_site_report(SYMBOLS, 80, late=10, findings=pd.DataFrame(
        {"symbol": ["AAPL"], "session": [pd.Timestamp("2018-12-28")], "rule": ["price jump"], "detail": ["up 60%"]}
    ))  # fmt: skip
    built(site_inputs(report, 80), tmp_path)
    page = (tmp_path / "sample" / "symbols" / "aapl.html").read_text()
    assert "dividend 0.25" in page
    assert "split 2 for 1" in page
    tallies = re.findall(r"(live|late, paler):</b> (\d+) right, (\d+) wrong, (\d+) none, (\d+) open", page)
    assert [(kind, sum(map(int, numbers))) for kind, *numbers in tallies] == [
        ("live", 70),
        ("late, paler", 10),
    ]
    assert [numbers[3] for _, *numbers in tallies] == ["1", "0"]
    assert "volume_z</dt><dd>+0.031" in page
    assert "<b>price jump</b>, 2018-12-28: up 60%" in page
    assert "2018-12-03 held, price jump: 100 to 1" in page
    assert page.count('class="wrap words">live') == page.count('class="wrap words">late') == 1
    assert "<script" not in page
    other = (tmp_path / "sample" / "symbols" / "msft.html").read_text()
    assert "No attribution of this forecast was kept" in other
    assert "no finding on it" in other


def test_the_close_of_the_chart_is_adjusted_to_the_newest_bar(tmp_path: Path) -> None:
    inputs = site_inputs(a_site_report(SYMBOLS, 80), 80)
    built(inputs, tmp_path)
    page = (tmp_path / "sample" / "symbols" / "aapl.html").read_text()
    close, split = inputs.prices["close"][:, 0], inputs.prices["split"][:, 0]
    first, last = re.search(r"From ([\d.]+) on \S+ to ([\d.]+) on 2018-12-31", page).groups()  # type: ignore[union-attr]
    assert float(last) == pytest.approx(close[-1], abs=0.005)
    dividend = 1 - 0.25 / close[-11]
    assert float(first) == pytest.approx(close[0] / split.prod() * dividend, abs=0.006)


def test_the_index_tells_the_kinds_apart_and_says_that_there_is_no_edge(tmp_path: Path) -> None:
    built(an_evening(80), tmp_path)
    page = (tmp_path / "sample" / "index.html").read_text()
    assert '<h2 id="verdict">No edge found</h2>' in page
    heads = re.findall(r'<th scope="col">(backtest|live|late) ', page)
    assert heads == ["backtest", "live", "late"]
    assert re.findall(r'aria-label="Cumulative log loss saved, (\w+)"', page) == heads
    assert "better: evidence 31 of 20" in page
    assert "ada: a split was missed" in page
    assert "gru-1" in page
    assert "not written down" in page
    assert "list entries without dates</th><td>3</td>" in page


def test_a_source_with_late_rows_alone_has_no_track_record(tmp_path: Path) -> None:
    report = a_site_report(SYMBOLS, 40, late=40, decay=(), kind="late")
    built(site_inputs(report, 40), tmp_path)
    page = (tmp_path / "sample" / "index.html").read_text()
    assert "late rows only, no track record" in page
    assert "hit rate in the late rows" in page
    assert "live rows only, and this source has none" in page


def test_several_outputs_are_never_pooled(tmp_path: Path) -> None:
    outputs = (MAIN, Output("relative", 1), Output("direction", 5))
    report = a_site_report(SYMBOLS, 40, outputs=outputs)
    built(site_inputs(report, 40), tmp_path)
    page = (tmp_path / "sample" / "index.html").read_text()
    assert re.findall(r"<summary><b>([^<]+)</b>", page) == [
        "Next session",
        "5 sessions ahead",
        "Next session against the median",
    ]
    symbol = (tmp_path / "sample" / "symbols" / "aapl.html").read_text()
    assert symbol.count('class="lead"') == 3
    assert symbol.count('class="wrap words">live <span') == 3


def test_no_link_leaves_the_folder_and_every_link_leads_to_a_file(tmp_path: Path) -> None:
    inputs = an_evening(backtest="backtest/report.html")
    built(inputs, tmp_path)
    folder = tmp_path / "sample"
    for name in (f"{inputs.report.target_session:%Y-%m-%d}/report.html", "backtest/report.html"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    for page in [folder / "index.html", *(folder / "symbols").iterdir()]:
        text = page.read_text()
        assert "default-src 'none'" in text
        assert not re.findall(r"https?://|@import|url\(", text)
        for link in re.findall(r'(?:href|src)="([^"#]+)"', text):
            assert (page.parent / link).resolve().is_relative_to(folder)
            assert (page.parent / link).exists(), link


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_text_in_every_page_and_no_path(tmp_path: Path, name: str) -> None:
    symbols = ["AAPL", name]
    report = a_site_report(symbols, 30, notes=[name], skipped=pd.DataFrame({"symbol": [], "reason": []}))
    inputs = site_inputs(report, 30, current={"AAPL": "AAPL"})
    built(inputs, tmp_path)
    written = {path.relative_to(tmp_path / "sample").as_posix() for path in tmp_path.rglob("*.html")}
    assert written == {"index.html", "symbols/aapl.html", f"symbols/{name_page(name)}"}
    for path in tmp_path.rglob("*.html"):
        text = path.read_text()
        assert "<img" not in text
        assert text.count("<script") == text.count("</script>") == (2 if path.name == "index.html" else 0)
        assert "alert(2)</script>" not in text.replace("\\u003c", "")


def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample" / "symbols").write_text("a file in the place of the folder")
    with pytest.raises(Exception, match="Cannot write"):
        built(an_evening(), tmp_path)
    assert read_state(tmp_path / "cache" / "sample.site.json").as_of == ""


def test_infinite_and_missing_prices_are_gaps(tmp_path: Path) -> None:
    evening = an_evening()
    values = evening.prices.values.copy()
    values[:, 1] = np.nan
    values[5:9, 2, COLUMNS.index("close")] = np.nan
    built(replace(evening, prices=replace(evening.prices, values=values)), tmp_path)
    assert "no bar in the last year" in (tmp_path / "sample" / "symbols" / "brk_2fb.html").read_text()
    assert "nan" not in (tmp_path / "sample" / "symbols" / "msft.html").read_text().lower().replace(
        "nanos", ""
    )
