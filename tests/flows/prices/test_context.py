"""Context series through the price update: fetched and stored as constituents are, and read as they were known."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.prices import fetch
from flows.prices.reader import open_stored_prices
from flows.prices.update import PriceStatus, update_prices
from flows.runtime.context import Run, open_run, with_former_settings
from flows.training.history import make_sequences, read_context
from pipeline.errors import ConfigError, InputError
from pipeline.market.calendar import Calendar
from tests.conftest import random_bars

FIRST, LAST = pd.Timestamp("2018-01-02"), pd.Timestamp("2018-06-29")
SETTINGS = """
[universe]
name = "u"
source = "files"
path = "prices.csv"
historical = true
[prices]
start = 2018-01-02
[features]
set = "closes"
add = ["context"]
[context]
symbols = ["^VIX", "RATE"]
source = "files"
path = "context.csv"
lag = { "RATE" = "1 session" }
"""


def write(file: Path, bars: dict[str, pd.DataFrame]) -> None:
    parts = [rows.assign(symbol=symbol) for symbol, rows in bars.items()]
    pd.concat(parts).rename(columns={"session": "date"}).drop(columns=["dividend", "split"]).to_csv(
        file, index=False
    )


def make(folder: Path, xnys: Calendar) -> Path:
    sessions = xnys.sessions_between(FIRST, LAST)
    write(folder / "prices.csv", {symbol: random_bars(sessions, seed) for seed, symbol in enumerate("AB")})
    plain = ["session", "close", "dividend", "split"]
    write(
        folder / "context.csv",
        {"^VIX": random_bars(sessions, 7)[plain], "RATE": random_bars(sessions, 8)[plain]},
    )
    (folder / "nextday.toml").write_text(SETTINGS)
    return folder


@pytest.fixture
def folder(tmp_path: Path, xnys: Calendar) -> Path:
    return make(tmp_path, xnys)


@pytest.fixture(scope="module")
def updated(tmp_path_factory: pytest.TempPathFactory, xnys: Calendar) -> tuple[Path, Run, PriceStatus]:
    """A workspace whose prices are stored; no test changes it."""
    folder = make(tmp_path_factory.mktemp("stored"), xnys)
    run = opened(folder)
    return folder, run, update_prices(run)


def opened(folder: Path, now: datetime | None = None) -> Run:
    return open_run(folder / "nextday.toml", folder / "data", now or datetime(2018, 7, 2, 12, tzinfo=UTC))


def closes(folder: Path, symbol: str) -> "pd.Series[float]":
    rows = pd.read_csv(folder / "context.csv", parse_dates=["date"])
    return rows[rows["symbol"] == symbol].set_index("date")["close"]


def change(folder: Path, old: str, new: str) -> None:
    text = (folder / "nextday.toml").read_text()
    assert old in text
    (folder / "nextday.toml").write_text(text.replace(old, new))


def test_a_series_is_no_constituent_and_shares_the_data_version(
    updated: tuple[Path, Run, PriceStatus],
) -> None:
    folder, run, status = updated
    assert (status.members, status.covered, status.missing) == (2, 2, {})
    assert run.universe.symbols == ["A", "B"]
    assert status.seq == run.store.seq()
    stored = open_stored_prices(folder / "nextday.toml", folder / "data", run.now)
    assert stored.store.symbols() == ["A", "B", "RATE", "^VIX"]
    assert stored.symbols() == stored.members().symbols == ["A", "B"]
    assert [universe.symbols for universe in stored.context().values()] == [["RATE", "^VIX"]]
    bars = stored.store.read(symbols=["^VIX"])
    assert set(bars["instrument_id"]) == {"context:^VIX"}
    np.testing.assert_allclose(bars["close"], closes(folder, "^VIX"))
    # A store that is opened without the context knows the constituents alone.
    assert run.store.symbols() == ["A", "B"]


def test_each_row_reads_the_value_known_at_its_close(updated: tuple[Path, Run, PriceStatus]) -> None:
    folder, run, status = updated
    known = make_sequences.fn(run, status.as_of, status.seq)
    sessions = known.sequences.sessions
    joined = read_context(run, sessions, status.seq, ["^VIX", "RATE"]).join(sessions)
    np.testing.assert_allclose(joined["^VIX"].value, closes(folder, "^VIX"))
    np.testing.assert_allclose(joined["RATE"].value[1:], closes(folder, "RATE")[:-1])
    column = known.sequences.features.index("context_RATE_change_1")
    rate = np.log(closes(folder, "RATE").to_numpy())
    assert known.sequences.x[0, 100, column] == pytest.approx(rate[99] - rate[98], rel=1e-5)
    assert known.sequences.symbols == ("A", "B")
    assert known.sequences.mask[:, 70:].all()


def test_a_live_window_reads_the_same_as_all_of_history(updated: tuple[Path, Run, PriceStatus]) -> None:
    _, run, status = updated
    whole = make_sequences.fn(run, status.as_of, status.seq).sequences
    first = run.calendar.sessions[110]
    part = make_sequences.fn(run, status.as_of, status.seq, None, first).sequences
    np.testing.assert_allclose(part.x, whole.x[:, 110:], atol=1e-6)
    np.testing.assert_array_equal(part.mask, whole.mask[:, 110:])
    early = make_sequences.fn(run, run.calendar.sessions[120], status.seq).sequences
    np.testing.assert_array_equal(early.x, whole.x[:, :121])


def test_a_correction_is_read_by_the_versions_that_know_it(folder: Path) -> None:
    run = opened(folder)
    before = update_prices(run)
    rows = pd.read_csv(folder / "context.csv")
    wrong = (rows["symbol"] == "^VIX") & (rows["date"] == "2018-06-05")
    rows.loc[wrong, "close"] *= 1.01
    rows.to_csv(folder / "context.csv", index=False)
    later = opened(folder, datetime(2018, 7, 3, 12, tzinfo=UTC))
    after = update_prices(later)
    assert after.seq > before.seq
    assert {("^VIX", "revised")} <= {
        (s, r.split()[0]) for s, r in after.findings[["symbol", "rule"]].to_numpy()
    }
    sessions = run.calendar.sessions_between(FIRST, LAST)
    was, now = (
        read_context(later, sessions, seq, ["^VIX"]).join(sessions)["^VIX"].value
        for seq in (before.seq, after.seq)
    )
    changed = np.flatnonzero(~np.isclose(was, now))
    assert [f"{sessions[place]:%Y-%m-%d}" for place in changed] == ["2018-06-05"]


def test_a_leap_puts_a_series_into_quarantine_and_leaves_the_constituents_alone(
    folder: Path, xnys: Calendar
) -> None:
    update_prices(opened(folder))
    monday = pd.Timestamp("2018-07-02")
    rows, more = pd.read_csv(folder / "context.csv"), pd.read_csv(folder / "prices.csv")
    vix = {"symbol": "^VIX", "date": "2018-07-02", "close": 1.6 * closes(folder, "^VIX").iloc[-1]}
    pd.concat([rows, pd.DataFrame([vix])]).to_csv(folder / "context.csv", index=False)
    tonight = more.groupby("symbol").tail(1).assign(date="2018-07-02")
    pd.concat([more, tonight]).to_csv(folder / "prices.csv", index=False)
    run = opened(folder, (xnys.closes[monday] + timedelta(hours=20)).to_pydatetime())
    status = update_prices(run)
    assert (status.as_of, status.covered) == (monday, 2)
    assert {entry.symbol for entry in run.fetch_log.quarantined().values()} == {"^VIX"}
    stored = open_stored_prices(folder / "nextday.toml", folder / "data", run.now)
    assert stored.store.read(symbols=["^VIX"])["session"].max() == LAST
    stored.release("^VIX")
    update_prices(opened(folder, run.now + timedelta(minutes=1)))
    assert stored.store.read(symbols=["^VIX"])["session"].max() == monday


def test_two_sources_are_kept_apart_and_neither_may_change(folder: Path) -> None:
    change(folder, 'source = "files"\npath = "prices.csv"', 'source = "sample"')
    change(folder, 'source = "files"\npath = "context.csv"\n', "")
    change(folder, 'symbols = ["^VIX", "RATE"]\n', 'symbols = ["^IXIC"]\n')
    change(folder, 'lag = { "RATE" = "1 session" }', "")
    indices = opened(folder)
    assert indices.universe.symbols == ["^GSPC"]  # what is context is no constituent
    assert indices.context[0].source is indices.source
    assert update_prices(indices).members == 1
    change(folder, 'source = "sample"', 'source = "files"\npath = "prices.csv"')
    change(folder, 'symbols = ["^IXIC"]', 'symbols = ["^IXIC"]\nsource = "sample"')
    with pytest.raises(InputError, match="The prices of the universe 'u' came from 'sample'"):
        update_prices(opened(folder))


def test_former_settings_read_the_series_as_they_did(updated: tuple[Path, Run, PriceStatus]) -> None:
    folder, run, status = updated
    run.save_settings()
    without = SETTINGS.replace('add = ["context"]', "").split("[context]")[0]
    (folder / "plain.toml").write_text(without)
    plain = open_run(folder / "plain.toml", folder / "data", run.now + timedelta(days=1))
    assert plain.context == ()
    former = with_former_settings(plain, run.digest)
    whole = make_sequences.fn(run, status.as_of, status.seq).sequences
    again = make_sequences.fn(former, status.as_of, status.seq).sequences
    np.testing.assert_array_equal(again.x, whole.x)
    assert again.features == whole.features


def test_every_fault_of_the_settings_is_told_at_once(folder: Path) -> None:
    (folder / "list.csv").write_text("symbol,name\nA,x\nB,y\n^VIX,z\n")
    change(folder, "historical = true", 'historical = true\nfile = "list.csv"\nsector = "gics"')
    change(folder, 'path = "context.csv"', 'path = "nowhere.csv"\ncalendar = { "^VIX" = "XNYSE" }')
    with pytest.raises(InputError) as told:
        opened(folder)
    text = str(told.value)
    assert [line for line in text.splitlines() if not line.startswith("  ")] == [
        "There is no calendar 'XNYSE'",
        "There is no such file or folder",
        "The universe file has no column 'gics'",
    ]
    assert "where: [context] calendar" in text
    assert "fix:   correct [context] path" in text
    assert text.count("fix:") == 3
    change(folder, 'calendar = { "^VIX" = "XNYSE" }', "")
    change(folder, 'sector = "gics"', "")
    change(folder, "nowhere.csv", "prices.csv")
    with pytest.raises(InputError) as told:
        opened(folder)
    assert "The source files has no series ^VIX, RATE" in str(told.value)
    assert "^VIX cannot be a constituent and a context series" in str(told.value)
    assert not (folder / "data").exists()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('symbols = ["^VIX", "RATE"]', "symbols = []", "symbols is empty"),
        ('"1 session"', '"1 week"', "write .1 session."),
        ('{ "RATE" = "1 session" }', "1", "lag: write one text for all series, or one for each"),
        ('"1 session"', '"61 sessions"', "60 sessions, 365 days at most"),
        ("lag = { ", 'lag = { "OIL" = "7 days", ', "lag names OIL, which symbols does not"),
        ('path = "context.csv"', "", "needs path"),
        ('source = "files"\npath = "context.csv"', 'path = "context.csv"', "path is for source"),
        ('add = ["context"]', "", "are read by nothing"),
        ("historical = true", 'historical = true\nsymbols = ["A", "^VIX"]', r"\^VIX cannot be a constituent"),
    ],
)
def test_a_section_that_contradicts_itself_is_refused(folder: Path, old: str, new: str, told: str) -> None:
    change(folder, old, new)
    with pytest.raises(ConfigError, match=told):
        opened(folder)


def test_the_real_series_are_read_as_they_were_published(tmp_path: Path, datasets: Path) -> None:
    """VIX, Treasury yields and oil of 2012, beside the sample's indices, against the table itself."""
    wide = pd.read_csv(datasets / "context" / "context.csv", parse_dates=["date"]).set_index("date")
    wide = wide.loc["2012", ["vix", "us10y", "wti"]]
    long = wide.reset_index().melt("date", var_name="symbol", value_name="close").dropna()
    long.to_csv(tmp_path / "context.csv", index=False)
    settings = SETTINGS.replace('"files"\npath = "prices.csv"', '"sample"').replace(
        "2018-01-02", "2012-01-03"
    )
    settings = settings.replace('["^VIX", "RATE"]', '["vix", "us10y", "wti"]')
    lag = '{ "vix" = "15 minutes", "us10y" = "1 session", "wti" = "7 days" }'
    (tmp_path / "nextday.toml").write_text(settings.replace('{ "RATE" = "1 session" }', lag))
    run = opened(tmp_path, datetime(2013, 1, 5, tzinfo=UTC))
    status = update_prices(run)
    sessions = run.calendar.sessions_between(pd.Timestamp("2012-01-03"), pd.Timestamp("2012-12-31"))
    joined = read_context(run, sessions, status.seq, ["vix", "us10y", "wti"]).join(sessions)
    at = {day: int(sessions.get_loc(pd.Timestamp(day))) for day in ("2012-06-05", "2012-10-09", "2012-10-31")}
    # The VIX closes after the stocks, a yield is published on the next day, the price of oil a week later.
    published = {"vix": "2012-06-04", "us10y": "2012-06-04", "wti": "2012-05-29"}
    for symbol, day in published.items():
        assert joined[symbol].value[at["2012-06-05"]] == pytest.approx(wide.loc[day, symbol])
        assert joined[symbol].session[at["2012-06-05"]] == pd.Timestamp(day)
    # Columbus Day: stocks traded and bonds did not. On Tuesday Friday's yield is still the last one.
    assert pd.Timestamp("2012-10-08") not in wide["us10y"].dropna().index
    assert joined["us10y"].session[at["2012-10-09"]] == pd.Timestamp("2012-10-05")
    assert joined["us10y"].is_carried[at["2012-10-09"]]
    # The hurricane closed New York on two days: on the thirty-first Friday's values are the last ones known.
    assert joined["vix"].session[at["2012-10-31"]] == pd.Timestamp("2012-10-26")
    assert not joined["vix"].is_carried[at["2012-10-31"]]


def test_a_series_of_a_market_that_never_closes_is_fetched_and_checked(folder: Path, xnys: Calendar) -> None:
    days = pd.date_range("2018-01-02", "2018-06-29", unit="us")
    rows = random_bars(days, 9)[["session", "close", "dividend", "split"]]
    write(folder / "context.csv", {"BTC-USD": rows})
    change(folder, '["^VIX", "RATE"]', '["BTC-USD"]\ncalendar = "24/7"')
    change(folder, 'lag = { "RATE" = "1 session" }', "")
    run = opened(folder)
    status = update_prices(run)
    assert status.findings.empty
    sessions = run.calendar.sessions_between(FIRST, LAST)
    joined = read_context(run, sessions, status.seq, ["BTC-USD"]).join(sessions)["BTC-USD"]
    monday = int(sessions.get_loc(pd.Timestamp("2018-06-11")))
    assert joined.session[monday] == pd.Timestamp("2018-06-10")  # Sunday's ended at midnight UTC
    assert joined.value[monday] == pytest.approx(rows.set_index("session").loc["2018-06-10", "close"])


def test_a_source_that_is_down_costs_the_values_and_not_the_evening(
    folder: Path, xnys: Calendar, own_modules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch.fetch_prices, "again", None)  # a retry waits for seconds
    (folder / "broken.py").write_text(
        "class Broken:\n    def fetch(self, symbol, start, end, now):\n        raise OSError('no route to host')\n"
    )
    change(folder, 'source = "files"\npath = "context.csv"', 'source = "broken:Broken"')
    status = update_prices(opened(folder))
    assert (status.members, status.covered) == (2, 2)
    run = opened(folder)
    sessions = run.calendar.sessions_between(FIRST, LAST)
    joined = read_context(run, sessions, status.seq, ["^VIX"]).join(sessions)["^VIX"]
    assert np.isnan(joined.value).all()
