"""The same trades in an independent engine: backtesting.py.

It fills an order at the open of the next bar. So each session is two bars here, one that stands at its open and one
that stands at its close: what is ordered after the close before is bought at the open, and what is ordered at the open
is sold at the close.
"""

import importlib.util

import numpy as np
import pandas as pd
import pytest

from pipeline.trading.fills import Fills
from pipeline.trading.performance import find_drawdown
from pipeline.trading.positions import take_positions, trade
from tests.conftest import skip_unless
from tests.pipeline.trading.test_positions import SESSIONS, rows_of, walk_of

# November 2026: backtesting 0.6 reads DatetimeIndex.dayofweek for its own statistics, which pandas 4 will remove.
pytestmark = pytest.mark.filterwarnings(
    "ignore:DatetimeIndex.dayofweek is deprecated:pandas.errors.Pandas4Warning:backtesting"
)

CAPITAL = 1e13
"""So much that whole shares are as good as parts of them: one share of 100 is 1e-11 of it."""


@pytest.fixture(scope="module")
def engine() -> object:
    skip_unless(importlib.util.find_spec("backtesting") is not None, "the package backtesting")
    import backtesting

    return backtesting


def bars_of(fills: Fills) -> pd.DataFrame:
    """Return two bars a session of the first symbol."""
    prices = np.column_stack([fills.open[:, 0], fills.close[:, 0]]).ravel()
    hours = np.array([pd.Timedelta(hours=14.5), pd.Timedelta(hours=21)])
    index = pd.DatetimeIndex([session + hour for session in fills.sessions for hour in hours])
    return pd.DataFrame(dict.fromkeys(("Open", "High", "Low", "Close"), prices), index=index)


def run_engine(engine: object, fills: Fills, sides: np.ndarray, cost: float) -> pd.Series:
    """Trade the sides [session] of the sessions from number 1 on; return what the engine says of it."""

    class InAndOut(engine.Strategy):  # type: ignore[name-defined, misc]
        def init(self) -> None:
            pass

        def next(self) -> None:
            bar = len(self.data) - 1
            if bar % 2 == 0:
                self.position.close()
            elif (side := sides[(bar - 1) // 2]) != 0:
                shares = round(self.equity / fills.open[(bar + 1) // 2, 0])
                (self.buy if side > 0 else self.sell)(size=shares)

    # A margin of a half lets the whole capital be put to work with the costs paid on top.
    made = engine.Backtest(  # type: ignore[attr-defined]
        bars_of(fills), InAndOut, cash=CAPITAL, commission=cost, margin=0.5
    )
    return made.run()


@pytest.mark.slow
@pytest.mark.parametrize("cost", [0.0, 0.0003, 0.002])
@pytest.mark.parametrize("threshold", [0.0, 0.1])
def test_every_trade_and_the_capital_are_those_of_another_engine(
    engine: object, cost: float, threshold: float
) -> None:
    fills = walk_of(8, sessions=120, symbols=1)
    p_up = np.random.default_rng(8).uniform(0.2, 0.8, (119, 1))
    held = take_positions(rows_of(p_up), fills, threshold=threshold)
    track = trade(held, fills.intraday_return, cost=cost)
    theirs = run_engine(engine, fills, np.append(held.weights[:, 0], 0.0), cost)

    trades = theirs["_trades"]
    assert len(trades) == track.trades.sum() > 50
    entered = pd.DatetimeIndex(trades["EntryTime"]).normalize()
    assert entered.equals(pd.DatetimeIndex(trades["ExitTime"]).normalize())
    assert entered.tolist() == SESSIONS[1:120][track.trades > 0].tolist()
    paid = trades["Commission"] / (trades["Size"].abs() * trades["EntryPrice"])
    assert trades["ReturnPct"].to_numpy() == pytest.approx(track.net[track.trades > 0], abs=1e-9)
    assert paid.to_numpy() == pytest.approx((track.gross - track.net)[track.trades > 0], abs=1e-9)

    equity = theirs["_equity_curve"]["Equity"].to_numpy()[3::2] / CAPITAL
    assert equity == pytest.approx(track.equity, abs=1e-9)
    assert theirs["Return [%]"] / 100 == pytest.approx(track.equity[-1] - 1, abs=1e-9)


def test_the_deepest_fall_is_that_of_another_engine(engine: object) -> None:
    fills = walk_of(8, sessions=120, symbols=1)
    sides = np.ones((119, 1))
    track = trade(
        take_positions(rows_of(0.5 + 0.1 * sides), fills, threshold=0.0), fills.intraday_return, cost=0.0
    )
    theirs = run_engine(engine, fills, np.append(sides, 0.0), 0.0)
    assert theirs["Max. Drawdown [%]"] / -100 == pytest.approx(find_drawdown(track).depth, abs=1e-9)
