"""How long prices take between a file, the store and a dense block, beside the quickest plain way to the same."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from flows.prices.update import check_prices
from pipeline.features.feature_sets import FEATURE_SETS
from pipeline.features.panel import build_panel
from pipeline.features.sequences import build_sequences
from pipeline.market.universe import Universe
from pipeline.prices.bar_block import COLUMNS
from pipeline.prices.ingest.fetch_log import FetchLog
from pipeline.prices.ingest.fetch_plan import FetchRequest
from pipeline.prices.store import PriceStore
from pipeline.sources import Fetched
from pipeline.sources.files import FilesSource
from tests.bench.market import DAYS, history, market, names
from tests.bench.stopwatch import Lap, median, tell, timed
from tests.support.made_sequences import directions

pytestmark = pytest.mark.bench

LAPS = 5
SYMBOLS, SESSIONS, EVENINGS, OVERLAP, LATE = 500, 5000, 250, 15, 9
LAST = DAYS.position(pd.Timestamp("2017-12-29"))
"""The last session of the first load; the evenings come after it."""


def after_close(place: int) -> datetime:
    return (DAYS.closes.iloc[place] + pd.Timedelta(hours=1)).to_pydatetime()


def keep(store: PriceStore, answers: Sequence[Fetched], place: int, *, whole: bool = False) -> None:
    """Check answers, compare them with what is stored and append what is new: the very chapter of an evening."""
    run = SimpleNamespace(
        store=store,
        fetch_log=FetchLog(store.folder.with_name(f"{store.folder.name}.fetches.sqlite")),
        source=SimpleNamespace(name="files"),
        universe=SimpleNamespace(instruments={answer.symbol: answer.symbol for answer in answers}),
        calendar=DAYS,
        last_closed=DAYS.sessions[place],
        today=DAYS.sessions[place],
        is_historical=False,
        digest="bench",
        highest_data_version=0,
        is_context=False,
    )
    first = min(answer.bars["session"].iloc[0] for answer in answers)
    check_prices.fn(run, answers, {answer.symbol: FetchRequest(first, whole) for answer in answers})


def load(file: Path, folder: Path) -> None:
    """Load a long file into a new store, all of it, up to its last session but those after LAST."""
    source, now = FilesSource(file, adjustment="raw", historical=False), after_close(LAST)
    answers = [source.fetch(name, DAYS.sessions[0], DAYS.sessions[LAST], now) for name in source.symbols()]
    keep(PriceStore(folder), answers, LAST, whole=True)


def evening(shares: pd.DataFrame, place: int, sessions: int) -> list[Fetched]:
    """Return what a source says on an evening of the last sessions; the newest volume will still be revised."""
    now, window = after_close(place), history(place, sessions)
    bars = shares[shares["date"].isin(window)].rename(columns={"date": "session"})
    volume = np.where(bars["session"] == window[-1], (bars["volume"] * 0.97).round(), bars["volume"])
    bars = bars.assign(volume=volume, dividend=0.0, split=1.0, adj_close=np.nan)
    return [
        Fetched(str(symbol), "ok", now, bars=rows.drop(columns="symbol").reset_index(drop=True))
        for symbol, rows in bars.groupby("symbol")
    ]


def evenings(store: PriceStore, shares: pd.DataFrame, places: range, sessions: int) -> list[Lap]:
    """Let evenings go by, each with as many new bars as settled ones, and return how long each one took."""
    recent = shares[shares["date"] >= DAYS.sessions[places[0] - sessions]]
    laps = []
    for place in places:
        answers, before = evening(recent, place, sessions), store.seq()
        laps.append(timed(keep, store, answers, place))
        assert store.seq() == before + 1
    return laps


def read(store: PriceStore, sessions: pd.DatetimeIndex, symbols: list[str]) -> np.ndarray:
    return store.read_block(sessions, symbols, store.seq(), dtype=np.float32).values


def read_plain(file: Path, sessions: pd.DatetimeIndex, symbols: list[str]) -> np.ndarray:
    """Return the dense block of one Parquet file that holds each bar once: the quickest plain way."""
    table = pq.read_table(file, columns=["symbol", "session", *COLUMNS], read_dictionary=["symbol"])
    code = table["symbol"].unify_dictionaries().combine_chunks()
    place = np.array([symbols.index(name) for name in code.dictionary.to_pylist()])
    column = sessions.get_indexer(pd.DatetimeIndex(table["session"].to_numpy()))
    cell = place[code.indices.to_numpy()] * len(sessions) + column
    block = np.full((len(COLUMNS), len(symbols) * len(sessions)), np.nan, np.float32)
    for values, name in zip(block, COLUMNS, strict=True):
        values[cell] = table[name].to_numpy()
    return block.reshape(len(COLUMNS), len(symbols), len(sessions)).transpose(2, 1, 0)


def in_turns(*works: Callable[[], object]) -> list[list[Lap]]:
    """Return the laps of several works, one round after another; the first round does not count."""
    rounds = [[timed(work) for work in works] for _ in range(LAPS + 1)]
    return [[laps[number] for laps in rounds[1:]] for number in range(len(works))]


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


@pytest.fixture(scope="module")
def shares() -> pd.DataFrame:
    """Return a market of 500 shares over 5,000 sessions, and a year and more after them."""
    return market(SYMBOLS, history(LAST + EVENINGS + LATE, SESSIONS + EVENINGS + LATE))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, shares: pd.DataFrame) -> Path:
    """Return a folder with the first 5,000 sessions as one Parquet file, and a store that was loaded from it."""
    folder = tmp_path_factory.mktemp("prices")
    shares[shares["date"] <= DAYS.sessions[LAST]].to_parquet(folder / "prices.parquet", index=False)
    load(folder / "prices.parquet", folder / "store")
    return folder


def test_a_first_load_of_one_file(folder: Path) -> None:
    laps = [timed(load, folder / "prices.parquet", folder / f"store-{number}") for number in range(3)]
    print()
    tell(f"first load, {SYMBOLS} symbols x {SESSIONS} sessions", laps, limit=15)
    print(f"on disk: {megabytes(folder / 'store'):.0f} MB")
    assert median(laps) <= 15


def test_a_dense_read(folder: Path) -> None:
    store, sessions, symbols = PriceStore(folder / "store"), history(LAST, SESSIONS), names(SYMBOLS)
    store.compact(timedelta(days=30))
    store.read().to_parquet(folder / "plain.parquet", index=False)
    plain = read_plain(folder / "plain.parquet", sessions, symbols)
    assert not np.isnan(plain).any()
    np.testing.assert_array_equal(read(store, sessions, symbols), plain)
    reads, doubles, references = in_turns(
        lambda: read(store, sessions, symbols),
        lambda: store.read_block(sessions, symbols, store.seq()),
        lambda: read_plain(folder / "plain.parquet", sessions, symbols),
    )
    print()
    tell("reference: one plain Parquet file into the block", references)
    tell("dense read as of a session, single precision", reads, references, 1)
    tell("the same in double precision, as forecasts read", doubles, references)
    assert median(reads) <= 1
    assert median(reads) <= 2 * median(references)


PEAK = """
import re, sys
from pathlib import Path
import numpy as np
from pipeline.prices.store import PriceStore
from tests.bench.market import history, names
def peak():  # of this program; ru_maxrss begins with what its parent had
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
store, place, symbols, sessions = PriceStore(Path(sys.argv[1])), *(int(given) for given in sys.argv[2:])
asked, before = (history(place, sessions), names(symbols)), peak()
block = store.read_block(*asked, store.seq(), dtype=np.float32).values
print(peak() - before, block.nbytes / 2**20)
"""


def test_the_peak_memory_of_a_read(folder: Path) -> None:
    command = [sys.executable, "-c", PEAK, str(folder / "store"), *map(str, (LAST, SYMBOLS, SESSIONS))]
    said = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(3)]
    above, block = np.median([[float(part) for part in line.split()] for line in said], axis=0)
    print(
        f"\npeak of a read above the imports: {above:.0f} MB, {above / block:.1f} x its block of {block:.0f} MB"
    )
    assert 1 < above / block <= 6


def test_250_evenings_without_maintenance(folder: Path, shares: pd.DataFrame) -> None:
    store, symbols, last = PriceStore(folder / "evenings"), names(SYMBOLS), LAST + EVENINGS
    load(folder / "prices.parquet", store.folder)
    plain = evenings(store, shares, range(LAST + 1, last + 1), 2)
    sessions = history(last, SESSIONS)
    [reads] = in_turns(lambda: read(store, sessions, symbols))
    size, files = megabytes(store.folder), len([*store.folder.rglob("*.parquet")])
    late = evenings(store, shares, range(last + 1, last + LATE + 1), OVERLAP + 1)
    compaction = [timed(store.compact, timedelta(days=30))]
    [compacted] = in_turns(lambda: read(store, sessions, symbols))
    print()
    tell("an evening of two sessions, the first ten of 250", plain[:10])
    tell("the same, the last ten", plain[-10:])
    tell("dense read after 250 evenings", reads, limit=2)
    print(f"on disk after 250 evenings: {size:.0f} MB in {files} files of bars, promised 120 MB")
    tell("an evening that asks 15 sessions again, after 250", late, limit=1)
    tell("compaction", compaction)
    tell("dense read after the compaction", compacted, limit=1)
    assert median(reads) <= 2
    assert size <= 120
    assert median(late) <= 1
    assert median(compacted) <= 1


FIRST = """
import sys, time
from pathlib import Path
from pipeline.prices.store import PriceStore
store = PriceStore(Path(sys.argv[1]))
rows = store.read(since=store.read(columns=[])["session"].max()).drop(columns="seq")
for factor in (2, 3):
    begun = time.perf_counter()
    assert store.append(rows.assign(volume=rows["volume"] * factor), run="bench") == len(rows)
    print(time.perf_counter() - begun)
"""


def test_the_first_commit_of_a_process(folder: Path) -> None:
    command = [sys.executable, "-c", FIRST, str(folder / "store")]
    said = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(3)]
    first, second = np.median([[float(line) for line in text.split()] for text in said], axis=0)
    print(
        f"\nan append of {SYMBOLS} bars: {first:.2f} s as the first of a process, {second:.2f} s as its second"
    )


def grown(folder: Path, size: int, sessions: int) -> list[float]:
    """Return the seconds of a load, of a dense read and of an evening of so many symbols."""
    file, shares = folder / f"{size}.parquet", market(size, history(LAST + LATE, sessions + LATE))
    shares[shares["date"] <= DAYS.sessions[LAST]].to_parquet(file, index=False)
    loads = [timed(load, file, folder / f"{size}-{number}") for number in range(3)]
    store, symbols = PriceStore(folder / f"{size}-0"), names(size)
    [reads] = in_turns(lambda: read(store, history(LAST, sessions), symbols))
    return [
        median(loads),
        median(reads),
        median(evenings(store, shares, range(LAST + 1, LAST + LATE), OVERLAP + 1)),
    ]


def test_time_grows_with_the_symbols_and_no_faster(tmp_path: Path) -> None:
    sessions, sizes = 1250, (50, 500, 2000)
    seconds = pd.DataFrame(
        [grown(tmp_path, size, sessions) for size in sizes], sizes, ["first load", "dense read", "evening"]
    )
    each = seconds.div(seconds.index, axis=0) * 1000
    print(
        f"\n{sessions} sessions; seconds by symbols:\n{seconds.round(2)}\nmilliseconds a symbol:\n{each.round(2)}"
    )
    assert (each.loc[2000] <= 1.5 * each.loc[500]).all()


def test_features_of_800_stocks_over_14_years(tmp_path: Path) -> None:
    """As large as the benchmark of Qlib's paper (arXiv:2009.11189): 800 stocks, 2007 to 2020, 14 factors."""
    years = (pd.Timestamp("2007-01-01"), pd.Timestamp("2020-12-31"))
    sessions, symbols = DAYS.sessions_between(*years), names(800)
    shares = market(800, sessions).rename(columns={"date": "session"})
    store, place = PriceStore(tmp_path / "store"), DAYS.position(sessions[-1])
    bars = shares.assign(dividend=0.0, split=1.0, adj_close=np.nan)
    answers = [
        Fetched(
            str(symbol), "ok", after_close(place), bars=rows.drop(columns="symbol").reset_index(drop=True)
        )
        for symbol, rows in bars.groupby("symbol")
    ]
    keep(store, answers, place, whole=True)
    dates = {name: pd.Series(pd.NaT, index=range(800), dtype="datetime64[us]") for name in ("first", "last")}
    everybody = Universe("u", pd.DataFrame({"symbol": symbols, **dates}))
    features = FEATURE_SETS["default16"]

    def compute() -> None:
        panel = build_panel(store.read_block(sessions, symbols, store.seq()))
        made = build_sequences(panel, features, everybody, directions(1))
        assert made.x.shape == (800, len(sessions), len(features.columns))

    [laps] = in_turns(compute)
    print()
    tell(f"store to {len(features.columns)} features and labels, 800 x {len(sessions)}", laps, limit=3)
    assert median(laps) <= 3
