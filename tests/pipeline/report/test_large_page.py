"""The report of thousands of symbols: both ends first, every forecast in a packed list, and a size that opens."""

import json
import re
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.outputs import MAIN, Output, list_outputs, select_output
from pipeline.report.evening_markdown import summary_markdown
from pipeline.report.evening_page import render
from pipeline.report.evening_report import Report
from pipeline.report.output_tables import LIST
from pipeline.report.tables import forecast_rows
from pipeline.schema import DIRECTIONS
from tests.pipeline.report.test_files import EVIL, UNDRAWN, a_report, forecasts, open_record

SIX = tuple(Output(target, horizon) for target in ("direction", "relative") for horizon in (1, 5, 20))
DIGITS = str(LIST["digits"])


def issued(symbols: list[str], outputs: tuple[Output, ...]) -> pd.DataFrame:
    rng, parts = np.random.default_rng(0), []
    for output in outputs:
        p = 0.53 + 0.03 * rng.standard_normal(len(symbols))
        above, below, _ = output.directions
        parts.append(
            forecasts(
                *symbols, p_up=p, low=p - 0.011, high=p + 0.02, direction=np.where(p > 0.5, above, below),
                horizon=output.horizon, target=output.target, last_close=10 + np.arange(len(symbols)) / 100,
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def a_large_report(count: int, outputs: tuple[Output, ...] = (MAIN,), **fields: Any) -> Report:
    symbols = fields.pop("symbols", [f"S{number:04d}" for number in range(count)])
    rows = issued(symbols, outputs)
    calls = pd.DataFrame({"symbol": symbols, "call": np.resize(["right", "wrong", ""], count)}).assign(
        target_session=rows["as_of"].iloc[0], direction="up", realized_return=0.01, is_settled=False
    )
    usual = {
        "forecasts": rows, "record": open_record(rows), "members": count, "covered": count, "last_calls": calls,
        "figures": UNDRAWN,
    }  # fmt: skip
    return a_report(**usual | fields)


@cache
def large_page(*outputs: Output) -> str:
    return render(a_large_report(5000, outputs))


def packed(page: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(page.split('id="rows">')[1].split("</script>")[0])
    return found


def number(text: str, first: int, width: int) -> int:
    value = 0
    for digit in text[first : first + width]:
        value = 64 * value + DIGITS.index(digit)
    return value


@pytest.mark.parametrize(("outputs", "most"), [((MAIN,), 350_000), (SIX, 650_000)], ids=["one", "six"])
def test_five_thousand_symbols_stay_far_below_two_megabytes(outputs: tuple[Output, ...], most: int) -> None:
    assert len(large_page(*outputs).encode()) < most


@pytest.mark.parametrize("outputs", [(MAIN,), SIX], ids=["one", "six"])
def test_both_ends_come_first(outputs: tuple[Output, ...]) -> None:
    page, rows = large_page(*outputs), issued([f"S{number:04d}" for number in range(5000)], (MAIN,))
    ordered = rows.sort_values("p_up")["symbol"].tolist()  # they have one base rate
    tables = re.findall(r"<h3>The 25 (\w+)</h3>\n<div.*?</table>", page, flags=re.DOTALL)
    assert tables == ["highest", "lowest"]
    found = re.findall(r'<tr><th scope="row">(S\d+)</th><td class="text (?:up|down)">', page)
    assert found == [*reversed(ordered[-25:]), *ordered[:25]]


@pytest.mark.parametrize("outputs", [(MAIN,), SIX], ids=["one", "six"])
def test_the_packed_list_holds_every_forecast(outputs: tuple[Output, ...]) -> None:
    report = a_large_report(5000, outputs)
    table, rows = packed(large_page(*outputs)), report.forecasts
    assert sorted(table["symbols"]) == sorted(rows["symbol"].unique())
    for text, output in zip(table["outputs"], list_outputs(rows), strict=True):
        own = select_output(rows, output).set_index("symbol").loc[table["symbols"]]
        starts = range(0, len(text), 11)
        for name, unit, first, width in (
            ("p_up", 1e5, 1, 3), ("low", 1e3, 4, 2), ("high", 1e3, 6, 2), ("baseline_p_up", 1e5, 8, 3)
        ):  # fmt: skip
            read = np.array([number(text, start + first, width) for start in starts]) / unit
            np.testing.assert_allclose(read, own[name], atol=0.51 / unit)
        marks = [number(text, start, 1) - 1 for start in starts]
        assert [DIRECTIONS[mark & 7] for mark in marks] == own["direction"].tolist()
        is_inside = (own["low"] <= own["baseline_p_up"]) & (own["baseline_p_up"] <= own["high"])
        assert [mark > 7 for mark in marks] == is_inside.tolist()
    first = rows.drop_duplicates("symbol").set_index("symbol").loc[table["symbols"]]
    assert [float(close) for close in table["closes"]] == first["last_close"].round(2).tolist()
    calls = [("", "right", "wrong")[int(digit)] for digit in table["calls"]]
    assert calls == [report.last_call[symbol] for symbol in table["symbols"]]


def test_the_page_says_how_many_it_leaves_out_and_where_they_are() -> None:
    page = large_page(MAIN)
    assert "The other 4,950 of 5,000 symbols are in forecast.csv" in page
    assert "<noscript><p>The list of all symbols needs JavaScript" in page
    assert '<div class="all" hidden>' in page  # shown by its script, so never an empty list
    assert "The 25 highest and the 25 lowest" not in page
    assert "the 25 highest and the 25 lowest of next session, 2019-01-02, each compared" in large_page(*SIX)


def test_every_id_of_a_large_page_is_unique() -> None:
    ids = re.findall(r'\bid="([^"]+)"', large_page(*SIX))
    assert len(ids) == len(set(ids)) > 8


def test_six_hundred_symbols_are_listed_whole_and_one_more_is_packed() -> None:
    whole, more = (render(a_large_report(count)) for count in (600, 601))
    assert whole.count('<tr><th scope="row">S') == 600
    assert "noscript" not in whole
    assert 'id="rows"' not in whole
    assert more.count('<tr><th scope="row">S') == 50
    assert len(packed(more)["symbols"]) == 601


def test_an_output_that_a_symbol_lacks_is_zero() -> None:
    rows = issued([f"S{number:04d}" for number in range(700)], SIX[:2])
    lacking = rows[~((rows["symbol"] == "S0007") & (rows["horizon"] == 5))]
    table = packed(render(a_large_report(700, SIX[:2], forecasts=lacking)))
    at = table["symbols"].index("S0007")
    assert number(table["outputs"][1], 11 * at, 11) == 0
    assert number(table["outputs"][0], 11 * at, 1) > 0


def test_a_hostile_name_cannot_end_the_packed_list() -> None:
    symbols = ["</script>" + EVIL, *(f"S{number:04d}" for number in range(700))]
    page = render(a_large_report(701, symbols=symbols))
    assert page.count("<script") == page.count("</script>") == 3
    assert "</script>" + EVIL in packed(page)["symbols"]


def test_of_many_constituents_without_a_forecast_the_first_are_listed() -> None:
    skipped = pd.DataFrame({"symbol": [f"Z{number:04d}" for number in range(4000)], "reason": "no bar"})
    page = render(a_large_report(700, skipped=skipped))
    assert page.count('<tr><th scope="row">Z') == 600
    assert "4,000 constituents have no forecast, and why; the first 600" in page
    assert "latest.json, written with this page, lists all of them" in page


def test_the_table_for_prefect_ends_somewhere() -> None:
    report = a_large_report(5000, SIX)
    rows = forecast_rows(report)
    assert len(rows) == 600
    assert [row["symbol"] for row in rows] == sorted(row["symbol"] for row in rows)
    assert "4980 more in forecast.csv" in summary_markdown(report)
