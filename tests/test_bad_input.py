"""Whatever a file, a list or a setting holds: it is named, with its place and the way out, and a workspace in use
stays as it was; bars that can be told apart are kept out, each by symbol, session and rule."""

import gzip
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline import seal
from pipeline.store import PriceStore
from tests.command_line import HERE, CommandLine, contents, seal_with_model, told

SESSIONS = pd.bdate_range("2018-11-26", "2018-12-14").drop(pd.Timestamp("2018-12-05"))
"""Sessions of New York, which was closed on the 5th."""

WALL = HERE[:4]
"""The clock on the wall."""


def prices(symbol: str = "A") -> pd.DataFrame:
    close = np.arange(10.0, 10 + len(SESSIONS))
    bars = pd.DataFrame({"Date": SESSIONS, "Symbol": symbol, "Close": close})
    return bars.assign(Open=close, High=close, Low=close)


GOOD = prices().to_csv(index=False)
FIRST = "2018-11-26,A,10.0,10.0,10.0,10.0"


def universe(line: str, settings: str = "") -> str:
    head = f'[universe]\nname = "u"\nsource = "files"\nhistorical = true\n{line}\n'
    return f"{head}[prices]\nstart = 2018-11-01\n{settings}"


@pytest.fixture(autouse=True)
def never_hangs() -> Iterator[None]:
    """End a test that waits for a pipe: it would wait for ever."""

    def end(*_: object) -> None:
        raise AssertionError("it hangs")

    former = signal.signal(signal.SIGALRM, end)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, former)


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("used")


@pytest.fixture
def nextday(
    used: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    """Return the command line in a folder whose workspace has prices, a ledger, a champion and a report."""
    if not (used / "w").exists():
        make_used(CommandLine(used, monkeypatch, capsys))
    nextday = CommandLine(tmp_path, monkeypatch, capsys)
    shutil.copytree(used, tmp_path, dirs_exist_ok=True)
    return nextday


def make_used(nextday: CommandLine) -> None:
    Path("prices.csv").write_text(GOOD)
    Path("nextday.toml").write_text(universe('path = "prices.csv"'))
    assert nextday(*HERE, "update").code == 0
    seal_with_model("u")
    Path("w/reports/u/2018-12-11").mkdir(parents=True)
    Path("w/reports/u/2018-12-11/report.html").write_text("<!doctype html>")


def refused(nextday: CommandLine, *words: str, code: int = 2, command: tuple[str, ...] = ("update",)) -> None:
    """Check that a command says these words, in few lines, and leaves the workspace as it was."""
    before = contents(Path("w"))
    said = nextday(*HERE, *command)
    assert said.code == code, said
    lines = told(said)
    for word in words:
        assert word in "\n".join(lines), said.err
    assert max(map(len, lines)) < 400
    assert "should not have happened" not in said.err
    assert contents(Path("w")) == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "No columns"),
        (b"\n\n\n", "No columns"),
        (b"\0" * 1000, "lacks the columns date, open"),
        (bytes(range(256)) * 9, "cannot be read"),
        (GOOD.replace(",", ";"), "'Date;Symbol;Close;Open;High;Low'"),
        (GOOD.replace(",", ";").replace(".", ","), "is there a comma in a number?"),
        (GOOD.replace("10.0", '"10,0"'), "'10,0' in open is no number"),
        (GOOD.replace("10.0", '"1,010.0"'), "'1,010.0' in open is no number"),
        (GOOD.replace("10.0", "True"), "'True' in open is no number"),
        (GOOD.replace("10.0", "=1+1"), "'=1+1' in open is no number"),
        (GOOD.encode("utf-16"), "UTF-8"),
        (GOOD.encode("utf-32"), "UTF-8"),
        (GOOD.replace(",A,", ",Société,").encode("latin-1"), "UTF-8"),
        (GOOD.replace("2018-11-26", "20181126"), "'20181126' is no date"),
        (GOOD.replace("-", ""), "'20181126' is no date"),
        (GOOD.replace("2018-11-26", "26.11.2018"), "'26.11.2018' is no date"),
        (GOOD.replace("2018-11-26", "43430"), "'43430' is no date"),
        (GOOD.replace("2018-11-26", "2018-02-30"), "'2018-02-30' is no date"),
        (GOOD.replace("2018-11-26", ""), "An empty cell is no date"),
        (GOOD.splitlines()[0], "no row of prices"),
        (GOOD.replace("High", "Close"), "The columns Close and Close both mean close"),
        (GOOD.replace("High", "CLOSE"), "The columns Close and CLOSE both mean close"),
        (GOOD.replace("High", "Ticker"), "The columns Symbol and Ticker both mean symbol"),
        (GOOD.replace("Low", "Bottom"), "lacks the column low"),
        (GOOD.replace(FIRST, f"{FIRST},1,2"), "more cells than there are columns"),
        (GOOD.replace("\n", ",\n").replace("Low,", "Low"), "more cells than there are columns"),
        (GOOD.replace("2018-11-27", '"2018-11-27'), "EOF inside string"),
        (GOOD.replace("Low", "Splits").replace(FIRST, FIRST.replace("10.0", "-2")), "lacks the column low"),
        (GOOD.replace("Low\n", "Low,Split\n").replace(FIRST, f"{FIRST},-2"), "'-2.0' in split is no ratio"),
        (GOOD.replace("Low\n", "Low,Split\n").replace(FIRST, f"{FIRST},inf"), "'inf' in split is no ratio"),
        (",".join(f"c{i}" for i in range(9999)), "lacks the columns date, open"),
    ],
)  # fmt: skip
def test_a_file_of_prices_that_cannot_be_read_as_prices_is_refused_with_its_place(
    nextday: CommandLine, content: "bytes | str", words: str
) -> None:
    Path("prices.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(nextday, words, str(Path("prices.csv").resolve()))


@pytest.mark.parametrize(
    "symbol",
    [
        "../../etc/passwd", "a/b", "a\\b", ".", "..", ".hidden", "~", "%2e%2e", "$HOME", "A B", '"A\nB"', "A\0B",
        "=1+1", "+A", "-A", "@A", "＝A", "'A", "<b>", "A;B", "A'--", "🚀", "Ａ", "\u202eA", "Société", "A" * 33,
        "A" * 10_000, "",
    ],
)  # fmt: skip
def test_no_symbol_is_anything_but_a_short_plain_name(nextday: CommandLine, symbol: str) -> None:
    Path("prices.csv").write_text(GOOD.replace(",A,", f",{symbol},"))
    refused(nextday, "No symbol can be named", "prices.csv", "letters, digits")
    Path("prices.csv").write_text(GOOD)
    Path("list.csv").write_text(f"symbol\nA\n{symbol},\n" if not symbol else f"symbol\nA\n{symbol}\n")
    Path("nextday.toml").write_text(universe('path = "prices.csv"\nfile = "list.csv"'))
    refused(nextday, "list.csv")


@pytest.mark.parametrize(
    "symbol", ["A", "BRK.B", "BF-B", "^GSPC", "EURUSD=X", "000001", "NA", "CON", "A.", "M_1"]
)
def test_what_exchanges_call_a_stock_is_a_symbol(nextday: CommandLine, symbol: str) -> None:
    Path("prices.csv").write_text(GOOD.replace(",A,", f",{symbol},"))
    assert nextday(*HERE, "update").code == 0
    assert symbol in set(PriceStore(Path("w/prices/u")).read()["symbol"])


def make_folder() -> None:
    Path("p.csv").mkdir()


def make_pipe_in_folder() -> None:
    make_folder()
    os.mkfifo("p.csv/A.csv")


def make_loop_in_folder() -> None:
    make_folder()
    Path("p.csv/A.csv").symlink_to("A.csv")


def make_folder_in_folder() -> None:
    Path("p.csv/A.csv").mkdir(parents=True)


def make_formula_in_folder() -> None:
    make_folder()
    prices().drop(columns="Symbol").to_csv("p.csv/=cmd.csv", index=False)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: os.mkfifo("p.csv"), "This is no file of prices"),
        (lambda: Path("p.csv").symlink_to("p.csv"), "no such file"),
        (lambda: Path("p.csv").symlink_to("absent"), "no such file"),
        (lambda: Path("p.csv").symlink_to("/dev/zero"), "This is no file of prices"),
        (make_folder, "no .csv and no .parquet"),
        (make_folder_in_folder, "This is no file of prices"),
        (make_pipe_in_folder, "This is no file of prices"),
        (make_loop_in_folder, "This is no file of prices"),
        (make_formula_in_folder, "'=cmd'"),
    ],
)
def test_what_is_no_file_is_refused_and_never_waited_for(
    nextday: CommandLine, make: Callable[[], None], words: str
) -> None:
    make()
    Path("nextday.toml").write_text(universe('path = "p.csv"'))
    refused(nextday, words, str(Path.cwd() / "p.csv"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda whole: whole[: len(whole) // 2], "magic bytes"),
        (lambda whole: whole[:30] + bytes(200) + whole[230:], "cannot be read"),
        (lambda whole: b"", "cannot be read"),
        (lambda whole: GOOD.encode(), "magic bytes"),
    ],
)
def test_a_damaged_parquet_file_is_refused(
    nextday: CommandLine, damage: Callable[[bytes], bytes], words: str
) -> None:
    prices().to_parquet("p.parquet")
    Path("p.parquet").write_bytes(damage(Path("p.parquet").read_bytes()))
    Path("nextday.toml").write_text(universe('path = "p.parquet"'))
    refused(nextday, words, "p.parquet")


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("Date", pd.NaT, "An empty cell is no date"),
        ("Close", "ten", "'ten' in close is no number"),
        ("Symbol", None, "No symbol can be named"),
    ],
)
def test_a_wrong_cell_of_a_parquet_file_is_named(
    nextday: CommandLine, column: str, value: object, words: str
) -> None:
    table = prices().astype({"Close": str}) if column == "Close" else prices()
    table.loc[3, column] = value
    table.to_parquet("p.parquet")
    Path("nextday.toml").write_text(universe('path = "p.parquet"'))
    refused(nextday, words, "p.parquet")


@pytest.mark.parametrize("content", [b"no gzip at all", gzip.compress(GOOD.encode())[:60]])
def test_a_damaged_archive_is_refused(nextday: CommandLine, content: bytes) -> None:
    Path("p.csv.gz").write_bytes(content)
    Path("nextday.toml").write_text(universe('path = "p.csv.gz"'))
    refused(nextday, "cannot be read", "p.csv.gz")


@pytest.mark.parametrize(
    "content",
    [
        GOOD.encode("utf-8-sig"),
        GOOD.replace("\n", "\r\n").encode(),
        GOOD.replace("\n", "\r").encode(),
        "\n".join([GOOD.splitlines()[0], *reversed(GOOD.splitlines()[1:])]).encode(),
        GOOD.replace(",A,", " 16:00:00-05:00,A,").encode(),
        GOOD.replace(",A,", ",A ,").encode(),
        GOOD.replace("Low\n", "Low,Note\n").replace(FIRST, f'{FIRST},"=1+1, said he"').encode(),
    ],
)
def test_a_file_that_only_looks_different_is_read_as_the_same(nextday: CommandLine, content: bytes) -> None:
    Path("prices.csv").write_bytes(content)
    before = contents(Path("w"))
    said = nextday(*HERE, "update")
    assert (said.code, said.out.splitlines()[1:]) == (0, [])
    assert contents(Path("w")) == before


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        (FIRST, f"{FIRST}\n{FIRST}", "second row A 2018-11-26"),
        (FIRST, f"{FIRST}\n2018-12-02,A,9,9,9,9", "no session A 2018-12-02"),
        (FIRST, FIRST.replace("10.0", "-10.0"), "close: it must be above zero A 2018-11-26"),
        (FIRST, FIRST.replace("10.0", "0"), "close: it must be above zero A 2018-11-26"),
        (FIRST, FIRST.replace("10.0", "inf"), "close: the value is not finite A 2018-11-26"),
        (FIRST, FIRST.replace("10.0", "9" * 400), "close: the value is not finite A 2018-11-26"),
        (FIRST, FIRST.replace("10.0", ""), "close: the value is missing A 2018-11-26"),
        (FIRST, FIRST.replace("10.0", "12.0", 1), "close lies outside low..high A 2018-11-26"),
        ("2018-12-03,", "2018-12-02,", "missing session A 2018-12-03"),
        (FIRST, f"{FIRST}\n2199-01-04,A,9,9,9,9", "future date A 2199-01-04"),
        (FIRST, f"{FIRST}\n9999-12-31,A,9,9,9,9", "future date A 9999-12-31"),
    ],
)
def test_a_bar_that_is_wrong_is_kept_out_and_named_by_symbol_session_and_rule(
    nextday: CommandLine, old: str, new: str, finding: str
) -> None:
    Path("prices.csv").write_text(GOOD.replace(old, new))
    stored = PriceStore(Path("w/prices/u")).read()
    said = nextday(*WALL, "update")
    assert said.code == 0
    assert finding in " ".join(said.out.replace("e.g.", "").split())
    assert not said.err.count("Warning")
    pd.testing.assert_frame_equal(PriceStore(Path("w/prices/u")).read(), stored)


@pytest.mark.parametrize("column", ["Volume", "Dividends"])
def test_a_negative_volume_or_dividend_is_named_for_what_it_is(nextday: CommandLine, column: str) -> None:
    Path("prices.csv").write_text(GOOD.replace("Low\n", f"Low,{column}\n").replace(FIRST, f"{FIRST},-5"))
    said = nextday(*HERE, "update")
    assert said.code == 0
    named = {"Volume": "volume", "Dividends": "dividend"}[column]
    assert f"{named}: it cannot be negative A 2018-11-26" in " ".join(said.out.replace("e.g.", "").split())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "No columns"),
        ("symbol\nA\n".encode("utf-16"), "UTF-8"),
        ("symbol\nSociété\n".encode("latin-1"), "UTF-8"),
        (b"ticker\nA\n", "needs one column 'symbol'"),
        (b"symbol;from\nA;2018-01-03\n", "needs one column 'symbol'"),
        (b"symbol,symbol\nA,B\n", "needs one column 'symbol'"),
        (b"symbol,Symbol \nA,B\n", "needs one column 'symbol'"),
        (b"symbol,from,FROM\nA,,\n", "no second 'from'"),
        (b"symbol\n", "at least one row"),
        (b"symbol,from\n,\n", "No symbol can be named ''"),
        (b"symbol\nA,2018-01-03\n", "Expected 1 fields"),
        (b"symbol,from\nA,31.12.2018\n", "'31.12.2018' in the column 'from' is no date"),
        (b"symbol,to\nA,20181231\n", "'20181231' in the column 'to' is no date"),
        (b"symbol,from,to\nA,2018-12-01,2017-01-01\n", "before it comes"),
        (b"symbol,to\nA,2018-11-20\n", "Nobody belongs to the universe 'u' on 2018-12-14"),
        (b"symbol\nZZZ\n", "ZZZ: not_found: prices.csv has no rows of it"),
    ],
)
def test_a_list_that_names_no_universe_is_refused(nextday: CommandLine, content: bytes, words: str) -> None:
    Path("list.csv").write_bytes(content)
    Path("nextday.toml").write_text(universe('path = "prices.csv"\nfile = "list.csv"'))
    refused(nextday, words)


@pytest.mark.parametrize(
    "make",
    [
        lambda: os.mkfifo("list.csv"),
        lambda: Path("list.csv").mkdir(),
        lambda: Path("list.csv").symlink_to("list.csv"),
    ],
)
def test_a_list_that_is_no_file_is_refused(nextday: CommandLine, make: Callable[[], None]) -> None:
    make()
    Path("nextday.toml").write_text(universe('path = "prices.csv"\nfile = "list.csv"'))
    refused(nextday, "The universe's file cannot be read", str(Path.cwd() / "list.csv"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (universe('path = "prices.csv"', "strat = 2018-11-01"), "did you mean 'start'?"),
        (universe('path = "prices.csv"', "[prises]"), "did you mean 'prices'?"),
        (universe('path = ""'), "universe: source = 'files' needs path"),
        (universe('path = "prices.csv"\nsymbols = ["A", "A"]'), "universe: symbols names one symbol twice"),
        (universe('path = "prices.csv"\nsymbols = ["../A"]'), "universe.symbols.0: '../A'"),
        (universe('path = "prices.csv"\nsymbols = ["ZZZ"]'), "ZZZ: not_found"),
        (universe('path = "prices.csv"\ncalendar = "../XNYS"'), "There is no calendar '../XNYS'"),
        (universe('path = "prices.csv"', "[model]\nunits = true"), "model.units: true and false are no value"),
        (universe('path = "prices.csv"', "[model]\nunits = 1.5"), "model.units"),
        (universe('path = "prices.csv"', f"[model]\nunits = {'9' * 99}"), "model.units"),
        (universe('path = "prices.csv"', "[training]\nclip_norm = inf"), "training.clip_norm"),
        (universe('path = "prices.csv"', "[training]\nlearning_rate = nan"), "training.learning_rate"),
        (universe('path = "prices.csv"', "[model]\nkind = 'transformer'"), "model.kind"),
        (universe('path = "prices.csv"').replace("2018-11-01", "'1.11.2018'"), "start: it is no date; write"),
        (universe('path = "prices.csv"').replace("2018-11-01", "0001-01-01"), "prices.start"),
        (universe('path = "prices.csv"').replace('"u"', '"../u"'), "universe.name: '../u'"),
        ("universe = 3", "universe: it is a section of its own"),
        ("a = " + "[" * 5000, "cannot be read"),
        ("[universe", "not valid TOML"),
    ],
)  # fmt: skip
def test_a_setting_that_nextday_does_not_know_is_refused(nextday: CommandLine, text: str, words: str) -> None:
    Path("nextday.toml").write_text(text)
    refused(nextday, words)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: os.mkfifo(path),
        lambda path: path.mkdir(),
        lambda path: path.symlink_to(path.name),
        lambda path: path.write_bytes("[model]\n".encode("utf-16")),
    ],
)
@pytest.mark.parametrize("command", ["update", "forecast", "report"])
def test_settings_that_are_no_text_are_refused(
    nextday: CommandLine, command: str, make: Callable[[Path], None]
) -> None:
    Path("nextday.toml").unlink()
    make(Path("nextday.toml"))
    refused(nextday, "The configuration cannot be read", str(Path.cwd() / "nextday.toml"), command=(command,))


def test_a_home_that_is_a_loop_of_links_is_refused(nextday: CommandLine) -> None:
    Path("loop").symlink_to("loop")
    said = nextday("--config", "nextday.toml", "--home", "loop", "update")
    assert said.code == 2
    assert "The workspace" in told(said)[0]


def test_features_that_are_all_unknown_are_told_before_a_model_is_made(nextday: CommandLine) -> None:
    days = pd.bdate_range("2016-01-04", "2017-12-29")
    close = 10 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.01, len(days))))
    table = pd.DataFrame({"Date": days, "Symbol": "B", "Close": close, "Volume": np.nan})
    table.assign(Open=close, High=close, Low=close).iloc[::2].to_csv("prices.csv", index=False)
    text = universe('path = "prices.csv"').replace('"u"', '"holes"').replace("2018-11-01", "2016-01-01")
    Path("nextday.toml").write_text(text)
    said = nextday(*HERE, "forecast")
    assert said.code == 2
    assert "No session has a valid row" in told(said)[0]
    assert not list(Path("w").rglob("models/holes/*"))


@pytest.mark.parametrize(
    ("command", "damage"),
    [
        (("ledger", "show"), "locked"),
        (("settle",), "locked"),
        (("settle",), "no ledger"),
        (("forecast",), "no ledger"),
        (("report",), "no ledger"),
        (("replay", "2018-12-10"), "no ledger"),
    ],
)
def test_a_ledger_that_is_locked_or_damaged_stops_every_command_that_needs_it(
    nextday: CommandLine, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], damage: str
) -> None:
    monkeypatch.setattr(seal, "_BUSY_SECONDS", 0.1)
    path = Path("w/ledger.sqlite")
    if damage == "no ledger":
        path.write_bytes(b"no ledger at all" * 100)
        refused(nextday, "This file is no ledger", str(path.resolve()), code=1, command=command)
        return
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        said = nextday(*HERE, *command)
    other.close()
    assert said.code == 1
    assert "The ledger is locked by another run" in told(said)[0]


COMMANDS = [
    ("update",), ("forecast",), ("retrain",), ("settle",), ("report",), ("replay", "2018-12-10"),
    ("ledger", "show"), ("ledger", "verify"), ("ledger", "export", "--csv", "-"), ("ui",),
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_a_workspace_of_a_newer_nextday_is_left_alone(nextday: CommandLine, command: tuple[str, ...]) -> None:
    Path("w/workspace.json").write_text('{"layout": 2, "made_by": "nextday 9.0"}')
    refused(nextday, "'nextday 9.0' made this workspace in layout 2", code=1, command=command)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"layout": "one", "made_by": ""}', "\x00"])
def test_a_damaged_marker_is_named(nextday: CommandLine, text: str) -> None:
    Path("w/workspace.json").write_text(text)
    refused(nextday, "marker cannot be read", str(Path("w/workspace.json").resolve()), code=1)


def test_a_workspace_from_before_the_marker_has_the_first_layout(nextday: CommandLine) -> None:
    marker = Path("w/workspace.json")
    made = marker.read_text()
    marker.unlink()
    assert nextday(*HERE, "ledger", "show").code == 0
    assert not marker.exists()
    assert nextday(*HERE, "update").code == 0
    assert marker.read_text() == made
    assert '"layout": 1' in made


def test_a_ledger_of_a_newer_layout_is_left_alone(nextday: CommandLine) -> None:
    with sqlite3.connect("w/ledger.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    for command in (("ledger", "show"), ("settle",)):
        refused(nextday, "The ledger has layout 99", code=1, command=command)


def test_a_model_whose_folder_is_gone_is_named(nextday: CommandLine) -> None:
    folder = next(path for path in Path("w/models/u").iterdir() if path.is_dir())
    (folder / "model.json").unlink()
    for command in (("forecast",), ("replay", "2018-12-10")):
        refused(nextday, str(folder.resolve()), "restore the folder", code=1, command=command)


@pytest.mark.parametrize("content", [b"", GOOD.replace(",A,", ",../A,").encode()])
def test_debug_shows_the_traceback_of_an_error_of_ours_too(nextday: CommandLine, content: bytes) -> None:
    Path("prices.csv").write_bytes(content)
    from pipeline.errors import InputError

    with pytest.raises(InputError):
        nextday("--debug", *HERE, "update")
