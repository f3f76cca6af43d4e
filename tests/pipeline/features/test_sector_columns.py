"""The columns on a symbol's sector, against pandas' own groups, and what the audit says of them."""

import numpy as np
import pandas as pd
import pytest

from pipeline.audit.feature_checks import (
    FeatureAudit,
    check_changed,
    check_cut_off,
    check_order,
    check_reach,
)
from pipeline.features.feature_sets import FEATURE_SETS
from pipeline.features.panel import Panel
from pipeline.features.sector_columns import SECTOR_COLUMNS, with_sector
from pipeline.market.calendar import Calendar
from pipeline.market.universe import Universe
from tests.conftest import laid_out, prices_of, random_bars
from tests.pipeline.audit.conftest import market
from tests.support.made_sequences import directions

SYMBOLS = ["A", "B", "C", "D", "E", "F"]
BANKS, SHIPS = "Banks", "Ships"


def listed(*rows: tuple[str, str | None, str | None, str | None]) -> Universe:
    """Return a universe of symbol, first day, last day and sector."""
    entries = pd.DataFrame(rows, columns=["symbol", "first", "last", "sector"])
    days = {name: pd.to_datetime(entries[name]).astype("datetime64[us]") for name in ("first", "last")}
    return Universe("u", entries.assign(**days, sector=entries["sector"].astype(object)))


def sectors_of(*names: str | None) -> Universe:
    return listed(*((symbol, None, None, name) for symbol, name in zip(SYMBOLS, names, strict=False)))


@pytest.fixture(scope="module")
def panel(xnys: Calendar) -> Panel:
    sessions = xnys.sessions[:120]
    bars = {symbol: random_bars(sessions, seed) for seed, symbol in enumerate(SYMBOLS)}
    bars["C"] = bars["C"].iloc[60:]
    return laid_out(prices_of(bars, xnys), sessions, SYMBOLS)


def columns_of(panel: Panel, universe: Universe, names: list[str] | None = None) -> dict[str, np.ndarray]:
    features = with_sector(FEATURE_SETS["closes"], universe, universe.sectors if names is None else names)
    belongs = universe.membership(panel.sessions, panel.symbols).to_numpy()
    made = features.compute(panel, belongs)
    assert set(features.columns) == set(made)
    return {name: made[name].to_numpy() for name in features.columns if name.startswith("sector_")}


def test_means_leave_the_symbol_out_and_ranks_lie_inside_the_sector(panel: Panel) -> None:
    made = columns_of(panel, sectors_of(BANKS, BANKS, BANKS, SHIPS, SHIPS, SHIPS))
    moves = pd.DataFrame(np.log(panel.adj_close)).diff()
    at = 100
    for group in ([0, 1, 2], [3, 4, 5]):
        for symbol in group:
            others = [other for other in group if other != symbol]
            assert made["sector_return_1"][at, symbol] == pytest.approx(moves.iloc[at, others].mean())
        ranks = moves.iloc[at, group].rank().to_numpy()
        np.testing.assert_allclose(made["sector_rank_return_1"][at, group], (ranks - 1) / 2 - 0.5)
    week = np.log(panel.adj_close[at] / panel.adj_close[at - 5])
    assert made["sector_return_5"][at, 3] == pytest.approx(week[4:].mean())
    month = pd.Series(np.log(panel.adj_close[at] / panel.adj_close[at - 21]))[:3].rank().to_numpy()
    np.testing.assert_allclose(made["sector_rank_return_21"][at, :3], (month - 1) / 2 - 0.5)
    volatility = moves.iloc[at - 20 : at + 1].std()[3:].rank().to_numpy()
    np.testing.assert_allclose(made["sector_rank_volatility_21"][at, 3:], (volatility - 1) / 2 - 0.5)


def test_each_sector_has_a_column_and_a_new_one_is_zero_in_all_of_them(panel: Panel) -> None:
    universe = sectors_of(BANKS, BANKS, None, SHIPS, SHIPS, SHIPS)
    made = columns_of(panel, universe)
    assert made["sector_is_Banks"][0].tolist() == [1, 1, 0, 0, 0, 0]
    assert made["sector_is_Ships"][0].tolist() == [0, 0, 0, 1, 1, 1]
    older = columns_of(panel, universe, ["Mines", "Ships"])
    assert older["sector_is_Mines"].sum() == 0
    assert [name for name in older if "_is_" in name] == ["sector_is_Mines", "sector_is_Ships"]


def test_a_listing_to_come_masks_no_member_of_its_small_sector(panel: Panel) -> None:
    made = columns_of(panel, sectors_of(BANKS, BANKS, BANKS, SHIPS, SHIPS, SHIPS))
    alone = columns_of(panel, sectors_of(BANKS, SHIPS, BANKS, SHIPS, SHIPS, None))
    assert np.isfinite(made["sector_return_1"][30:60, :2]).all()
    # Until C is listed A is alone in its sector, and F is alone always.
    assert (alone["sector_return_1"][30:60, 0] == 0).all()
    assert alone["sector_return_1"][100, 0] != 0
    assert (alone["sector_rank_return_1"][30:, 5] == 0).all()
    assert (alone["sector_return_5"][30:, 5] == 0).all()


def test_a_sector_holds_between_the_dates_of_its_row(panel: Panel) -> None:
    turn = f"{panel.sessions[80]:%Y-%m-%d}"
    before = f"{panel.sessions[79]:%Y-%m-%d}"
    universe = listed(
        *((symbol, None, None, BANKS) for symbol in "ABC"),
        *((symbol, None, None, SHIPS) for symbol in "DE"),
        ("F", None, before, BANKS),
        ("F", turn, None, SHIPS),
    )
    made = columns_of(panel, universe)
    assert made["sector_is_Banks"][:, 5].tolist() == [1.0] * 80 + [0.0] * 40
    moves = np.diff(np.log(panel.adj_close), axis=0, prepend=np.nan)
    assert made["sector_return_1"][79, 5] == pytest.approx(moves[79, :3].mean())
    assert made["sector_return_1"][80, 5] == pytest.approx(moves[80, 3:5].mean())


def test_the_audit_finds_nothing(xnys: Calendar) -> None:
    block = market(xnys)
    names = [BANKS, BANKS, SHIPS, BANKS, SHIPS, SHIPS]
    universe = listed(
        *((symbol, None, None, name) for symbol, name in zip(block.symbols, names, strict=True))
    )
    features = with_sector(FEATURE_SETS["closes"], universe, universe.sectors)
    audit = FeatureAudit(block, features, universe, directions(1))
    known = audit.make()
    assert known.mask.any()
    assert set(SECTOR_COLUMNS) < set(known.features)
    for found in (check_cut_off(audit, known, 4), check_changed(audit, known, 4), check_order(audit, known)):
        assert (found.status, "bit for bit" in found.evidence) == ("passed", True), found
    assert check_reach(audit, known, 4).status == "passed"
