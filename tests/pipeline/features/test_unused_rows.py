"""Rows that the model cannot use are explained by the feature that is not finite, or by the missing trades."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipeline.features.feature_sets import FEATURE_SETS
from pipeline.features.panel import Panel
from pipeline.features.sequences import build_sequences
from pipeline.features.unused_rows import describe_masked, describe_unused
from pipeline.market.calendar import Calendar
from pipeline.market.universe import Universe
from tests.conftest import laid_out, prices_of, vendor_bars
from tests.support.made_sequences import directions

COUNT, FLAT = 300, slice(150, 200)
DEFAULT = FEATURE_SETS["default16"]


SYMBOLS = ["PENNY", "STEADY", "U", "V", "W"]


def made(xnys: Calendar, **changed: object) -> Panel:
    """Return steady stocks, and a penny stock whose close stays the same for 50 sessions."""
    rng = np.random.default_rng(3)
    closes = {symbol: 50 * np.exp(np.cumsum(rng.normal(0, 0.01, COUNT))) for symbol in SYMBOLS}
    closes["PENNY"][FLAT] = closes["PENNY"][FLAT.start]
    sessions = xnys.sessions[:COUNT]
    bars = {symbol: vendor_bars(sessions, close) for symbol, close in closes.items()}
    return replace(laid_out(prices_of(bars, xnys), sessions, SYMBOLS), **changed)


def universe(panel: Panel) -> Universe:
    never = pd.Series(pd.NaT, index=range(len(panel.symbols)), dtype="datetime64[us]")
    return Universe("u", pd.DataFrame({"symbol": panel.symbols, "first": never, "last": never}))


def lines(panel: Panel) -> list[str]:
    members = universe(panel)
    return describe_unused(panel, DEFAULT, members, build_sequences(panel, DEFAULT, members, directions(1)))


def test_a_penny_stock_names_its_feature_and_its_rows(xnys: Calendar) -> None:
    panel = made(xnys)
    (line,) = lines(panel)
    assert line.startswith("PENNY: ")
    assert "rows are not used: volatility_ratio is not finite on " in line
    assert f"to {panel.sessions[FLAT.stop - 1]:%Y-%m-%d}" in line
    assert "universe_" not in line


def test_a_window_is_explained_by_its_own_rows(xnys: Calendar) -> None:
    panel = made(xnys)
    early = replace(
        panel,
        sessions=panel.sessions[: FLAT.stop],
        **{
            name: getattr(panel, name)[: FLAT.stop]
            for name in ("open", "high", "low", "close", "volume", "adj_close", "last_close")
        },
    )
    found = describe_masked(early, DEFAULT, universe(early), ["PENNY", "STEADY"], last=10)
    assert list(found) == ["PENNY"]
    assert "is not finite on 10 (" in found["PENNY"]
    assert describe_masked(panel, DEFAULT, universe(panel), ["PENNY"], last=10) == {}


def test_bars_without_trades_are_named_where_most_have_none(xnys: Calendar) -> None:
    panel = made(xnys)
    volume = panel.volume.copy()
    volume[:200, 1] = 0.0
    assert f"STEADY: a volume of 0 on 200 of {COUNT} bars: they have no label" in lines(
        made(xnys, volume=volume)
    )
    volume[:, 1] = np.nan  # not reported
    assert not any(line.startswith("STEADY") for line in lines(made(xnys, volume=volume)))


@pytest.mark.parametrize("missing", [1, 9])
def test_healthy_histories_have_no_line(xnys: Calendar, missing: int) -> None:
    panel = made(xnys)
    close, adjusted = panel.close.copy(), panel.adj_close.copy()
    close[100 : 100 + missing : 2, 1] = adjusted[100 : 100 + missing : 2, 1] = np.nan
    assert not any(line.startswith("STEADY") for line in lines(made(xnys, close=close, adj_close=adjusted)))


def test_a_symbol_without_ranges_names_the_set_that_works(xnys: Calendar) -> None:
    panel = made(xnys)
    for name in ("open", "high", "low"):
        getattr(panel, name)[:, SYMBOLS.index("U")] = np.nan
        getattr(panel, name)[-1, SYMBOLS.index("V")] = np.nan
    _, fund = lines(panel)
    bars = COUNT - DEFAULT.reach
    assert fund.startswith(f"U: {bars} of {bars} rows are not used: no high and no low on {bars} bars (")
    assert fund.endswith('and the feature set default16 needs them; [features] set = "closes" works without')
    tonight = describe_masked(panel, DEFAULT, universe(panel), ["V"], last=5)["V"]
    assert tonight.startswith(
        f"no high and no low on 1 bar ({panel.sessions[-1]:%Y-%m-%d}), and the feature set"
    )
    alstm = describe_masked(panel, FEATURE_SETS["alstm11"], universe(panel), ["U"])["U"]
    assert alstm.startswith("no open and no high and no low on ")
    assert '"closes" works without' in alstm
    closes = FEATURE_SETS["closes"]
    assert (
        build_sequences(panel, closes, universe(panel), directions(1))
        .mask[SYMBOLS.index("U"), DEFAULT.reach :]
        .all()
    )


def test_closes_are_the_columns_of_the_default_set_bit_for_bit(xnys: Calendar) -> None:
    panel, closes = made(xnys), FEATURE_SETS["closes"]
    whole, part = (build_sequences(panel, each, universe(panel), directions(1)) for each in (DEFAULT, closes))
    shared = whole.mask & part.mask
    assert shared.any()
    for column, name in enumerate(part.features):
        same = whole.x[..., whole.features.index(name)][shared] == part.x[..., column][shared]
        assert same.all()
