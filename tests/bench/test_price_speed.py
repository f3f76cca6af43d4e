"""How long prices take between a file, the store and a dense block, beside the quickest plain way of the same minutes."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipeline.admission import admit
from pipeline.block import COLUMNS
from pipeline.features import FEATURE_SETS
from pipeline.panel import build_panel
from pipeline.quality import check
from pipeline.sequences import build_sequences
from pipeline.sources import Fetched
from pipeline.sources.files import FilesSource
from pipeline.store import PriceStore
from pipeline.universe import Universe
from tests.bench.market import DAYS, market
from tests.bench.stopwatch import Lap, median, tell, timed

pytestmark = pytest.mark.bench

LAPS = 5
SYMBOLS, SESSIONS, EVENINGS, OVERLAP = 500, 5000, 250, 15
BLOCK = 100  # symbols checked at a time, as an evening does it
LAST = DAYS.position(pd.Timestamp("2017-12-29"))
"""The last session of the first load; the evenings come after it."""


def history(last: int = LAST, sessions: int = SESSIONS) -> pd.DatetimeIndex:
    return DAYS.sessions[last - sessions + 1 : last + 1]


def after_close(place: int) -> pd.Timestamp:
    return DAYS.closes.iloc[place] + pd.Timedelta(hours=1)


def keep(store: PriceStore, answers: Sequence[Fetched], place: int, *, whole: bool) -> int:
    """Check answers, compare them with what is stored and append what is new, as an evening does; return how much."""
    new, symbols = [], frozenset(answer.symbol for answer in answers) if whole else frozenset[str]()
    for first in range(0, len(answers), BLOCK):
        block, as_of = answers[first : first + BLOCK], DAYS.sessions[place]
        checked = check(block, DAYS, as_of, source="files", historical=False, today=as_of)
        new.append(admit(store, checked.prices, {}, symbols).new)
    return store.append(pd.concat(new, ignore_index=True), run="bench")


def load(file: Path, store: PriceStore, place: int = LAST) -> None:
    """Load a long file into an empty store, all of it."""
    source = FilesSource(file, adjustment="raw", historical=False)
    now = after_close(place).to_pydatetime()
    answers = [source.fetch(s, DAYS.sessions[0], DAYS.sessions[place], now) for s in source.symbols()]
    rows = sum(len(answer.bars) for answer in answers)
    assert keep(store, answers, place, whole=True) == rows


def evening(shares: pd.DataFrame, place: int, sessions: int) -> list[Fetched]:
    """Return what a source says on an evening of the last sessions; the volume of the newest is not final."""
    now, window = after_close(place).to_pydatetime(), DAYS.sessions[place - sessions + 1 : place + 1]
    bars = shares[shares["date"].isin(window)].rename(columns={"date": "session"})
    volume = np.where(bars["session"] == window[-1], (bars["volume"] * 0.97).round(), bars["volume"])
    bars = bars.assign(volume=volume, dividend=0.0, split=1.0, adj_close=np.nan)
    return [
        Fetched(str(symbol), "ok", now, bars=rows.drop(columns="symbol").reset_index(drop=True))
        for symbol, rows in bars.groupby("symbol")
    ]


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
    return np.moveaxis(block.reshape(len(COLUMNS), len(symbols), len(sessions)), 0, 2)


def interleaved(laps: int, *works: Callable[[], object]) -> list[list[Lap]]:
    """Return the laps of each of several works, one round after another, after one round that does not count."""
    rounds = [[timed(work) for work in works] for _ in range(laps + 1)]
    return [[lap[number] for lap in rounds[1:]] for number in range(len(works))]


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the made-up market as one Parquet file, and a store that was loaded from it thrice."""
    folder = tmp_path_factory.mktemp("prices")
    market(SYMBOLS, history(LAST, SESSIONS)).to_parquet(folder / "prices.parquet", index=False)
    return folder


@pytest.fixture(scope="module")
def store(folder: Path) -> Iterator[PriceStore]:
    yield PriceStore(folder / "store-0")


def test_a_first_load_of_one_file(folder: Path) -> None:
    laps = [
        timed(lambda n=n: load(folder / "prices.parquet", PriceStore(folder / f"store-{n}")))
        for n in range(3)
    ]
    print()
    tell(f"first load, {SYMBOLS} symbols x {SESSIONS} sessions", laps, limit=15)
    print(f"on disk: {megabytes(folder / 'store-0'):.0f} MB")
    assert median(laps) <= 15


def test_a_dense_read(folder: Path, store: PriceStore) -> None:
    sessions, symbols, plain = history(), store.symbols(), folder / "plain.parquet"
    store.compact(timedelta(days=30))
    store.read().to_parquet(plain, index=False)
    block = store.read_block(sessions, symbols, store.seq(), dtype=np.float32)
    np.testing.assert_array_equal(block.values, read_plain(plain, sessions, symbols))
    reads, doubles, references = interleaved(
        LAPS,
        lambda: store.read_block(sessions, symbols, store.seq(), dtype=np.float32),
        lambda: store.read_block(sessions, symbols, store.seq()),
        lambda: read_plain(plain, sessions, symbols),
    )
    print()
    tell("reference: one plain Parquet file into the block", references)
    tell("dense read as of a session, float32", reads, references, 1)
    tell("the same in double precision, as forecasts read", doubles, references)
    assert median(reads) <= 1
    assert median(reads) <= 2 * median(references)


PEAK = """
import resource, sys
from pathlib import Path
import numpy as np, pandas as pd
from pipeline.store import PriceStore
from tests.bench.test_price_speed import history
store = PriceStore(Path(sys.argv[1]))
sessions, symbols = history(), [f"S{number:04d}" for number in range(int(sys.argv[2]))]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
block = store.read_block(sessions, symbols, store.seq(), dtype=np.float32)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) / 1024, block.values.nbytes / 2**20)
"""


def test_the_peak_memory_of_a_read(folder: Path, store: PriceStore) -> None:
    command = [sys.executable, "-c", PEAK, str(store.folder), str(SYMBOLS)]
    said = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(3)]
    above, block = np.median([[float(part) for part in line.split()] for line in said], axis=0)
    print(
        f"\npeak of the read above the imports: {above:.0f} MB, {above / block:.1f} x the block of {block:.0f} MB"
    )
    assert above <= 6 * block


def test_250_evenings_without_maintenance(folder: Path) -> None:
    store, symbols = PriceStore(folder / "store-1"), [f"S{number:04d}" for number in range(SYMBOLS)]
    last = LAST + EVENINGS
    shares = market(SYMBOLS, history(last + 10, EVENINGS + 40))
    appends = [
        timed(lambda p=p: keep(store, evening(shares, p, 2), p, whole=False))
        for p in range(LAST + 1, last + 1)
    ]
    sessions = history(last, SESSIONS)
    [reads] = interleaved(LAPS, lambda: store.read_block(sessions, symbols, store.seq(), dtype=np.float32))
    size = megabytes(store.folder)
    late = [
        timed(lambda p=p: keep(store, answers, p, whole=False))
        for p, answers in ((p, evening(shares, p, OVERLAP + 1)) for p in range(last + 1, last + 10))
    ]
    compaction = [timed(lambda: store.compact(timedelta(days=30)))]
    [compacted] = interleaved(
        LAPS, lambda: store.read_block(sessions, symbols, store.seq(), dtype=np.float32)
    )
    print()
    tell("an append of an evening's 500 + 500 bars, first ten", appends[:10])
    tell("the same, last ten of 250", appends[-10:])
    tell("dense read after 250 evenings", reads, limit=2)
    print(f"on disk after 250 evenings: {size:.0f} MB, promised 120 MB")
    tell("an evening with an overlap of 15 sessions", late, limit=1)
    tell("compaction", compaction)
    tell("dense read after the compaction", compacted, limit=1)
    assert median(reads) <= 2
    assert size <= 120
    assert median(late) <= 1
    assert median(compacted) <= 1


def test_time_grows_with_the_symbols_and_no_faster(tmp_path: Path) -> None:
    sizes, sessions = (50, 500, 2000), history(LAST, 1250)
    seconds = pd.DataFrame(
        index=pd.Index(sizes, name="symbols"), columns=["load", "read", "append"], dtype=float
    )
    for size in sizes:
        shares = market(size, history(LAST + 4, 1250 + 4))
        file, symbols = tmp_path / f"{size}.parquet", [f"S{number:04d}" for number in range(size)]
        shares[shares["date"] <= sessions[-1]].to_parquet(file, index=False)
        laps = [timed(lambda n=n: load(file, PriceStore(tmp_path / f"{size}-{n}"))) for n in range(3)]
        store = PriceStore(tmp_path / f"{size}-0")
        [reads] = interleaved(
            LAPS, lambda: store.read_block(sessions, symbols, store.seq(), dtype=np.float32)
        )
        late = [
            timed(lambda p=p: keep(store, answers, p, whole=False))
            for p, answers in ((p, evening(shares, p, OVERLAP + 1)) for p in range(LAST + 1, LAST + 5))
        ]
        seconds.loc[size] = [median(laps), median(reads), median(late)]
    each = seconds.div(seconds.index, axis=0) * 1000
    print(
        f"\n{len(sessions)} sessions, seconds:\n{seconds.round(2)}\nmilliseconds a symbol:\n{each.round(2)}"
    )
    assert (each.loc[2000] <= 1.5 * each.loc[500]).all()


def test_features_of_800_stocks_over_14_years(tmp_path: Path) -> None:
    """The size of the data-server benchmark of Qlib's paper (arXiv:2009.11189): 800 stocks, 2007 to 2020, 14 factors."""
    sessions = DAYS.sessions_between(pd.Timestamp("2007-01-01"), pd.Timestamp("2020-12-31"))
    market(800, sessions).to_parquet(tmp_path / "prices.parquet", index=False)
    store, place = PriceStore(tmp_path / "store"), DAYS.position(sessions[-1])
    load(tmp_path / "prices.parquet", store, place)
    symbols = store.symbols()
    dates = {name: pd.Series(pd.NaT, index=range(800), dtype="datetime64[us]") for name in ("first", "last")}
    everybody, features = Universe("u", pd.DataFrame({"symbol": symbols, **dates})), FEATURE_SETS["default"]

    def compute() -> None:
        panel = build_panel(store.read_block(sessions, symbols, store.seq()))
        made = build_sequences(panel, features, everybody, (1,))
        assert made.x.shape == (800, len(sessions), 16)

    [laps] = interleaved(LAPS, compute)
    print()
    tell(f"store to {len(features.columns)} features, mask and labels, 800 x {len(sessions)}", laps, limit=3)
    assert median(laps) <= 3
