"""A split that is late, partial, lost or doubled waits in quarantine; a true crash is believed."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.support import street as street_module
from tests.support.made_market import make_stock
from tests.support.street import Street, assert_true, rules
from tests.support.yahoo_market import Quirk
from tests.support.yahoo_quirks import ListedTwice, Unadjusted, Unlisted, late

pytestmark = pytest.mark.slow

street = street_module.street

SIX = ("A", "B", "C", "D", "E", "F")
MONDAY, TUESDAY, WEDNESDAY, MENDED = "2018-12-10", "2018-12-11", "2018-12-12", "2018-12-17"


FAULTS: dict[str, tuple[Quirk, ...]] = {
    "LATE": (Unlisted(WEDNESDAY, until=MENDED),),
    "PRICES": (Unadjusted(WEDNESDAY, until=MENDED),),
    "PART": (Unadjusted(WEDNESDAY, last="2018-12-04", until=MENDED),),
    "TWICE": (ListedTwice(WEDNESDAY, since="2018-12-13", until=MENDED),),
    "LOST": (Unlisted(WEDNESDAY, since="2018-12-13", until=MENDED),),
}
"""Listings with a split on Wednesday: it or its prices come late, or to a part of them, or twice, or it is lost."""


def test_a_split_that_is_late_partial_lost_or_doubled_waits_in_quarantine_and_nothing_is_invented(
    street: Street,
) -> None:
    sessions = street.days.sessions_between(pd.Timestamp(street.first), pd.Timestamp("2018-12-31"))
    split = make_stock(street.days, sessions, 9, splits={WEDNESDAY: (2, 1)})
    healthy = [f"H{number:02}" for number in range(20)]  # of so many the faulty ones are few: no outage
    street.opens(*healthy, **dict.fromkeys(FAULTS, split))
    held: dict[str, list[str]] = {symbol: [] for symbol in FAULTS}
    for symbol, quirks in FAULTS.items():
        street.quirk(symbol, *quirks)
    for session in street.sessions(MONDAY, "2018-12-18"):
        market = street.evening(session)
        found = rules(market)
        assert not found.keys() - FAULTS.keys()
        for symbol in FAULTS:
            if "quarantine: split fault" in found.get(symbol, []):
                held[symbol].append(session)
                assert "quarantine since" in market.missing[symbol]
            known = street.bars(symbol, session)
            truth = street.server.stocks[symbol].traded["close"][known.index]
            np.testing.assert_allclose(known["close"], truth, rtol=2e-7, err_msg=f"{symbol} {session}")
    later = street.sessions("2018-12-13", "2018-12-14")
    at_once = [WEDNESDAY, *later]
    assert held == {"LATE": at_once, "PRICES": at_once, "PART": at_once, "TWICE": later, "LOST": later}
    events = street.run("2018-12-18").fetch_log.events()
    for symbol in FAULTS:
        assert events[events["symbol"] == symbol]["event"].tolist() == ["held", "ended"], symbol
        assert_true(street, symbol, "2018-12-18")
        assert street.bars(symbol)["split"][WEDNESDAY] == 2, symbol
    assert set(events["symbol"]) == {*FAULTS}


def test_a_split_that_yahoo_knows_nothing_of_for_days_makes_no_false_return(street: Street) -> None:
    sessions = street.days.sessions_between(pd.Timestamp(street.first), pd.Timestamp("2018-12-31"))
    street.opens(*SIX, X=make_stock(street.days, sessions, 9, splits={WEDNESDAY: (2, 1)}))
    street.quirk("X", *late(WEDNESDAY, "2018-12-17"))
    street.evening(MONDAY)
    street.evening(TUESDAY)
    for session in street.sessions(WEDNESDAY, "2018-12-14"):
        assert rules(street.evening(session)) == {"X": ["quarantine: unexplained leap"]}
        assert street.bars("X").index[-1] == pd.Timestamp(
            TUESDAY
        )  # so no outcome can be taken from it either
    assert rules(street.evening("2018-12-17")) == {}
    assert_true(street, "X", "2018-12-17")
    assert street.bars("X")["split"][WEDNESDAY] == 2


def test_a_crash_that_stands_for_five_sessions_is_believed(street: Street) -> None:
    street.opens(*SIX)
    whole = street.server.stocks["A"].traded
    fallen = whole.astype(float)
    fallen.loc[WEDNESDAY:, ["open", "high", "low", "close"]] *= 0.45
    street.server.stocks["A"] = replace(street.server.stocks["A"], traded=fallen)
    held = [s for s in street.sessions(MONDAY, "2018-12-20") if "A" in rules(street.evening(s))]
    assert held == street.sessions(WEDNESDAY, "2018-12-18")
    assert_true(street, "A", "2018-12-20")


def test_a_split_wrong_from_the_first_evening_on_is_seen_without_an_overlap(street: Street) -> None:
    sessions = street.days.sessions_between(pd.Timestamp(street.first), pd.Timestamp("2018-12-31"))
    street.opens(*SIX, X=make_stock(street.days, sessions, 9, splits={"2018-09-12": (2, 1)}))
    street.quirk("X", Unadjusted("2018-09-12", until=WEDNESDAY))
    market = street.evening(MONDAY)
    assert rules(market) == {"X": ["quarantine: split fault"]}
    assert street.bars("X", MONDAY).empty
    street.evening(WEDNESDAY)
    assert_true(street, "X", WEDNESDAY)
