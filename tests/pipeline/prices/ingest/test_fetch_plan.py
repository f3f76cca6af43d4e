"""The fetch plan: no symbol twice, no whole history without a reason, and each one once in twenty sessions."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from pipeline.market.calendar import Calendar
from pipeline.prices.ingest.fetch_log import Answer, FetchLog, QuarantineEntry
from pipeline.prices.ingest.fetch_plan import AUDIT_EVERY, OVERLAP, FetchRequest, plan_requests
from pipeline.prices.ingest.listing_status import Listing, find_listings, recent_bars
from pipeline.prices.store import PriceStore
from pipeline.sources import Outcome
from tests.conftest import prices_of, random_bars


class Desk:
    """A store of A and B, a fetch log, and sessions to plan for."""

    def __init__(self, folder: Path, days: Calendar) -> None:
        self.days, self.sessions = days, days.sessions[:80]
        self.store, self.log = PriceStore(folder / "p" / "u"), FetchLog(folder / "p" / "u.fetches.sqlite")
        self.beginning = self.sessions[0]

    def evening(self, place: int, hours: float = 2) -> datetime:
        return (self.days.closes.iloc[place] + timedelta(hours=hours)).to_pydatetime()

    def keep(self, place: int, symbols: str = "AB", *, whole: bool = True) -> None:
        """Store the bars to session number `place`, that one provisional, and log that the source delivered them."""
        rows = prices_of(
            {s: random_bars(self.sessions[: place + 1], k) for k, s in enumerate(symbols)}, self.days
        )
        status = rows["status"].where(rows["session"] < self.sessions[place], "provisional")
        self.store.append(rows.assign(status=status.astype("str")), run="r")
        said = [Answer(s, "ok", whole, self.beginning, self.evening(place)) for s in symbols]
        self.log.record(self.sessions[place], said)

    def lose_log(self) -> None:
        """Move the log away with its checksum, as the message about a lost one says."""
        for file in self.log.place.parent.glob(f"{self.log.place.name}*"):
            file.unlink()

    def plan(self, place: int, hours: float = 2, **instruments: str) -> dict[str, FetchRequest]:
        return plan_requests(
            self.store,
            self.log,
            self.days,
            {"A": "A", "B": "B", **instruments},
            sorted({"A", "B", *instruments}),
            beginning=self.beginning,
            last=self.sessions[place],
            now=self.evening(place, hours),
        )

    def listings(self, place: int) -> dict[str, Listing]:
        """Return the states of A and B at the close of session number `place`."""
        last = self.sessions[place]
        bars = recent_bars(self.store, self.days, ["A", "B"], last)
        return find_listings(bars, self.log, self.days, ["A", "B"], last)

    def answers(self, outcome: Outcome, *places: int, symbol: str = "B", whole: bool = False) -> None:
        """Log this outcome for the symbol on these sessions."""
        for place in places:
            said = Answer(symbol, outcome, whole, self.beginning, self.evening(place))
            self.log.record(self.sessions[place], [said])


@pytest.fixture
def desk(tmp_path: Path, xnys: Calendar) -> Desk:
    return Desk(tmp_path, xnys)


def no_audit(desk: Desk, place: int) -> int:
    """Return the first session from `place` on, on which neither A nor B has an audit."""
    desk.keep(place - 1)
    return next(p for p in range(place, place + 20) if not any(a.is_whole for a in desk.plan(p).values()))


def test_the_first_plan_requests_everything(desk: Desk) -> None:
    assert desk.plan(30) == dict.fromkeys("AB", FetchRequest(desk.beginning, is_whole=True))


def test_a_later_plan_starts_fifteen_sessions_before_the_last_settled_bar(desk: Desk) -> None:
    place = no_audit(desk, 40)
    assert desk.plan(place)["A"] == FetchRequest(desk.sessions[38 - OVERLAP], is_whole=False)


def test_a_provisional_bar_is_requested_again_only_when_it_can_have_settled(desk: Desk) -> None:
    desk.keep(40, "AB")
    assert desk.plan(40) == {}
    assert set(desk.plan(40, hours=19)) == {"A", "B"}


def test_only_symbols_without_the_newest_bar_are_requested_again(desk: Desk) -> None:
    desk.keep(39, "AB")
    desk.keep(40, "A", whole=False)
    assert set(desk.plan(40)) == {"B"}


def test_every_symbol_has_one_audit_in_twenty_sessions(desk: Desk) -> None:
    desk.keep(30)
    audits = []
    for place in range(31, 31 + 2 * AUDIT_EVERY):
        for symbol, request in desk.plan(place).items():
            if request.is_whole:
                audits.append(symbol)
                desk.answers("ok", place, symbol=symbol, whole=True)
    assert (audits.count("A"), audits.count("B")) == (2, 2)


def test_a_missed_audit_is_caught_up(desk: Desk) -> None:
    desk.keep(30)
    assert all(request.is_whole for request in desk.plan(30 + AUDIT_EVERY).values())


def test_an_earlier_start_requests_the_whole_history_once(desk: Desk) -> None:
    desk.keep(40)
    desk.beginning = pd.Timestamp("1998-06-01")
    assert desk.plan(40)["A"] == FetchRequest(desk.beginning, is_whole=True)
    desk.log.record(
        desk.sessions[40], [Answer(s, "ok", True, desk.beginning, desk.evening(40)) for s in "AB"]
    )
    assert desk.plan(40) == {}


def test_a_symbol_in_quarantine_is_requested_whole(desk: Desk) -> None:
    desk.keep(40)
    entry = QuarantineEntry("OLD", "A", desk.evening(40), "split fault", "")
    desk.log.record_quarantine("held", [entry], desk.evening(40))
    assert desk.plan(40) == {}
    assert desk.plan(40, A="OLD") == {"A": FetchRequest(desk.beginning, is_whole=True)}
    desk.log.record_quarantine("ended", [replace(entry, is_released=True)], desk.evening(40))
    assert desk.plan(40, A="OLD") == {}


def test_a_store_without_a_log_is_compared_whole_once(desk: Desk) -> None:
    desk.keep(40)
    desk.lose_log()
    assert desk.plan(40) == dict.fromkeys("AB", FetchRequest(desk.beginning, is_whole=True))


@pytest.mark.slow
def test_a_symbol_is_delisted_after_five_sessions_and_then_requested_on_its_audits_only(desk: Desk) -> None:
    desk.keep(30, "AB")
    desk.keep(60, "A")
    desk.answers("not_found", 31, 32, 33, 34)
    listed = desk.listings(34)
    assert listed["B"].state == "trading"
    assert "B" in desk.plan(34)
    desk.answers("not_found", 35)
    listed = desk.listings(35)
    assert (listed["B"].state, listed["B"].last) == ("delisted", desk.sessions[30])
    asked = []
    for place in range(36, 36 + 2 * AUDIT_EVERY):
        if "B" in desk.plan(place, C="C", D="D", E="E"):
            asked.append(place)
            desk.answers("not_found", place, whole=True)
    # One turn went by before it was known to be delisted.
    assert [later - earlier for earlier, later in pairwise(asked[1:])] == [AUDIT_EVERY]


def test_where_all_are_not_found_the_source_is_failing_and_requests_go_on(desk: Desk) -> None:
    desk.keep(30, "AB")
    for symbol in "AB":
        desk.answers("not_found", *range(31, 40), symbol=symbol)
    assert set(desk.plan(40)) == {"A", "B"}


@pytest.mark.parametrize(("place", "state"), [(39, "trading"), (40, "suspended")])
def test_a_symbol_that_is_known_and_has_no_bar_for_ten_sessions_is_suspended(
    desk: Desk, place: int, state: str
) -> None:
    desk.keep(30, "AB")
    desk.answers("ok", *range(31, 35))
    desk.answers("empty", *range(35, place + 1))
    found = desk.listings(place)["B"]
    assert (found.state, found.last) == (state, desk.sessions[30])


def test_an_outage_is_no_suspension_however_long(desk: Desk) -> None:
    desk.keep(30, "AB")
    desk.answers("transient", *range(31, 60))
    assert desk.listings(59)["B"].state == "trading"


def test_a_source_without_a_log_counts_as_having_answered(desk: Desk) -> None:
    desk.keep(30, "AB")
    desk.lose_log()
    assert [desk.listings(place)["B"].state for place in (39, 40)] == ["trading", "suspended"]


def test_an_old_404_is_forgotten_with_the_next_bar(desk: Desk) -> None:
    desk.keep(30, "AB")
    desk.answers("not_found", *range(24, 30), symbol="B")
    assert desk.listings(31)["B"].state == "trading"


def test_a_symbol_that_never_had_a_bar_is_unknown(desk: Desk) -> None:
    desk.keep(30, "A")
    desk.answers("not_found", *range(20, 31))
    assert desk.listings(30)["B"].state == "unknown"
