"""Custom sources: the documented examples run, the rules hold, and invalid answers are not stored."""

import json
import re
import sqlite3
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pytest

from pipeline.config import Config
from pipeline.config_file import load
from pipeline.errors import ConfigError, SourceError
from pipeline.prices.store import PriceStore
from pipeline.sources.conformance import ConformanceError, check_source
from pipeline.sources.custom import CustomSource, load_source
from pipeline.sources.files import FilesSource
from pipeline.sources.sample import SampleSource
from tests.conftest import NOW, PROJECT
from tests.pipeline.sources.test_custom_answers import (
    CLOSES,
    DAYS,
    END,
    SECRET,
    START,
    MadeSource,
    known,
    table,
)
from tests.support.command_line import HERE, CommandLine, contents, told

PAGE = (PROJECT / "docs" / "custom_source.md").read_text()


def block(name: str) -> str:
    found = re.search(rf"```(?:python|toml)\n# {re.escape(name)}.*?\n(.*?)```", PAGE, re.S)
    assert found is not None
    return found.group(1)


@pytest.fixture
def place(own_modules: Path) -> Path:
    return own_modules


@pytest.fixture
def nextday(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(place, monkeypatch, capsys)


@pytest.fixture
def database(place: Path) -> Path:
    with closing(sqlite3.connect(place / "prices.sqlite")) as connection, connection:
        for symbol in ("ACME", "BOLT"):
            rows = table(symbol=symbol, day=DAYS, dividend=0.0, split=None).drop(columns="date")
            rows.to_sql("bars", connection, index=False, if_exists="append")
    (place / "my_prices.py").write_text(block("my_prices.py"))
    return place


# The page.


def test_the_pages_database_gives_an_evening_its_prices(database: Path, nextday: CommandLine) -> None:
    Path("nextday.toml").write_text(block("nextday.toml") + "[prices]\nstart = 2018-12-10\n")
    said = nextday(*HERE[:-1], "2018-12-14T22:00Z", "update")
    assert said.code == 0, said.err
    store = PriceStore(Path("w/prices/mine"))
    stored = store.read(columns=["close", "source"])
    assert stored.groupby("symbol")["close"].apply(list).to_dict() == {"ACME": CLOSES, "BOLT": CLOSES}
    assert store.sources() == ["my_prices:MyDatabase"]


def test_the_pages_test_passes_and_can_fail(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(database)
    names: dict[str, Callable[[], None]] = {}
    exec(block("test_my_prices.py"), names)
    names["test_my_database_keeps_the_rules"]()
    with closing(sqlite3.connect(database / "prices.sqlite")) as connection, connection:
        connection.execute("UPDATE bars SET low = 99 WHERE day = '2018-12-12'")
    with pytest.raises(AssertionError, match="ACME 2018-12-12: low is above open or close"):
        names["test_my_database_keeps_the_rules"]()


class _Vendor(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        if parse_qs(asked.query)["key"] != [SECRET]:
            status = 401
        else:
            status = {"ACME": 200, "BUSY": 503, "MUCH": 429}.get(asked.path.rpartition("/")[2], 404)
        rows = table(date=DAYS, dividends=0.0, splits=0.0).to_dict("records")
        body = json.dumps({"bars": rows if status == 200 else []}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def vendor() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Vendor) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def web(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], CustomSource]:
    (place / "my_web.py").write_text(block("my_web.py"))
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)

    def made(address: str, key: str) -> CustomSource:
        monkeypatch.setenv("MY_VENDOR_KEY", key)
        return load_source("my_web:MyVendor", place, {"address": address})

    return made


def test_the_pages_vendor_gives_the_outcome_of_the_http_status(
    vendor: str, web: Callable[[str, str], CustomSource]
) -> None:
    source = web(vendor, SECRET)
    said = [source.fetch(symbol, START, END, NOW) for symbol in ("ACME", "GONE", "BUSY", "MUCH", "ACME")]
    assert [answer.outcome for answer in said] == [
        "ok", "not_found", "transient", "rate_limited", "rate_limited",
    ]  # fmt: skip
    assert said[0].bars["close"].tolist() == CLOSES
    assert (said[0].adjustment, source.name) == ("raw", "my-vendor")
    assert web(vendor, "wrong").fetch("ACME", START, END, NOW).outcome == "bad_payload"


def test_a_vendor_that_is_gone_is_transient(web: Callable[[str, str], CustomSource]) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Vendor) as server:
        address = f"http://127.0.0.1:{server.server_port}"
    assert web(address, SECRET).fetch("ACME", START, END, NOW).outcome == "transient"


# Finding it.


@pytest.mark.parametrize(
    ("code", "source", "words"),
    [
        (None, "my_gone:Mine", ["no module 'my_gone'", "put it into"]),
        ("import absent_thing", "my_a:Mine", ["my_a cannot be imported", "absent_thing", "my_a.py, line 1"]),
        ("def f(:", "my_b:Mine", ["my_b cannot be imported: SyntaxError", "my_b.py, line 1"]),
        ("x = 1\n1 / 0", "my_c:Mine", ["ZeroDivisionError: division by zero (my_c.py, line 2)"]),
        ("raise SystemExit('no')", "my_d:Mine", ["SystemExit: no"]),
        ("class Mein: pass", "my_e:Mine", ["my_e has no 'Mine'", "did you mean 'Mein'?"]),
        ("Mine = 3", "my_f:Mine", ["is no class and no function, but int"]),
        ("class Mine: pass", "my_g:Mine", ["my_g:Mine: there is no method fetch"]),
        ("class Mine:\n def fetch(self, symbol): pass", "my_h:Mine", ["too many positional arguments"]),
        ("class Mine:\n async def fetch(self, *a): pass", "my_i:Mine", ["fetch is async"]),
        ("class Mine:\n def __init__(self, path): pass", "my_j:Mine", ["with no options", "'path'"]),
        ("class Mine:\n name = 'a b'\n def fetch(self, *a): pass", "my_k:Mine", ["name = 'a b'"]),
        ("class Mine:\n name = 'yahoo'\n def fetch(self, *a): pass", "my_l:Mine", ["belongs to a built-in source"]),
        ("class Mine:\n adjustment = 'ra'\n def fetch(self, *a): pass", "my_m:Mine", ["adjustment = 'ra'"]),
        ("class Mine:\n is_local = 'no'\n def fetch(self, *a): pass", "my_n:Mine", ["is_local = 'no'"]),
        ("class C:\n def fetch(self, *a): pass\ndef Mine(): return C", "my_o:Mine", ["the class itself"]),
        ("class Mine:\n def fetch(self, *a): pass", "my_p:Mine", ["has no symbol", "symbols or file"]),
        ("raise KeyError('API_KEY')", "my_q:Mine", ["KeyError: 'API_KEY' (my_q.py, line 1)"]),
    ],
)  # fmt: skip
def test_an_invalid_source_is_refused_with_its_place_and_a_fix(
    nextday: CommandLine, code: str | None, source: str, words: list[str]
) -> None:
    if code is not None:
        Path(source.partition(":")[0] + ".py").write_text(code)
    Path("nextday.toml").write_text(f"[universe]\nsource = '{source}'\n")
    said = nextday(*HERE, "update")
    assert said.code == 2
    for word in words:
        assert word in "\n".join(told(said))
    assert not Path("w/prices").exists()


def test_a_package_and_a_factory_function_are_accepted(place: Path) -> None:
    (place / "my_package").mkdir()
    (place / "my_package" / "vendor.py").write_text(
        "from my_neighbour import Source\ndef make(**options): return Source(options)\n"
    )
    (place / "my_neighbour.py").write_text(textwrap.dedent("""
        class Source:
            historical = True
            def __init__(self, options): self.options = options
            def symbols(self): return ["B", "A"]
            def fetch(self, *asked):
                import my_late_neighbour
    """))  # fmt: skip
    source = load_source("my_package.vendor:make", place, {"deep": True})
    assert (source.symbols(), source.historical, source.is_local) == (["A", "B"], True, False)
    (place / "my_late_neighbour.py").write_text("")
    assert source.fetch("A", START, END, NOW).outcome == "empty"


def test_a_module_that_hides_the_one_next_to_the_settings_is_named(place: Path) -> None:
    (place / "json.py").write_text("class Mine: pass")
    with pytest.raises(ConfigError, match="Python finds another 'json' before yours"):
        load_source("json:Mine", place, {})


def test_a_remote_symbol_list_is_requested_only_where_nothing_else_names_the_universe(
    nextday: CommandLine,
) -> None:
    Path("my_list.py").write_text(textwrap.dedent("""
        class Mine:
            def symbols(self): raise ConnectionError("the line is cut")
            def fetch(self, *asked): return None
    """))  # fmt: skip
    Path("nextday.toml").write_text("[universe]\nsource = 'my_list:Mine'\n")
    said = nextday(*HERE, "update")
    assert (said.code, "the line is cut" in said.err) == (1, True)
    Path("nextday.toml").write_text("[universe]\nsource = 'my_list:Mine'\nsymbols = ['A']\n")
    assert "A: empty: the source has no bar" in nextday(*HERE, "update").err


@pytest.mark.parametrize("listed", [["../x"], [3], 3])
def test_a_list_with_an_invalid_symbol_is_refused(listed: object) -> None:
    with pytest.raises(SourceError, match="symbols"):
        CustomSource(MadeSource(symbols=lambda: listed)).symbols()


# The settings.


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("source = 'yaho'", "write sample, files, yahoo, or package.module:Name"),
        ("source = 'my source:Mine'", "package.module:Name"),
        ("source = 'm:Mine\\n'", "package.module:Name"),
        ("source = '../m:Mine'", "package.module:Name"),
        ("source_options = { a = 1 }", "for a custom source"),
        ("source = 'm:N'\nsource_options = { a = 2018-12-31 }", "a: a name takes text, a number"),
        ("source = 'm:N'\nsource_options = { a = nan }", "finite"),
        ("source = 'm:N'\nsource_options = { 'a b' = 1 }", "a b: a name takes"),
        ("source = 'm:N'\nsource_options = 3", "write a table"),
    ],
)
def test_a_wrong_setting_of_the_source_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "nextday.toml").write_text(f"[universe]\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "nextday.toml")
    assert words in str(caught.value)


@pytest.mark.parametrize("option", ["api_key = 'hush'", "Token = ['hush']", "url = 'http://me:hush@host/'"])
def test_a_secret_is_no_option_and_is_never_repeated(tmp_path: Path, option: str) -> None:
    (tmp_path / "nextday.toml").write_text(f"[universe]\nsource = 'm:N'\nsource_options = {{ {option} }}\n")
    with pytest.raises(ConfigError, match="environment") as caught:
        load(tmp_path / "nextday.toml")
    assert "hush" not in str(caught.value)


def test_options_are_settings_and_keep_their_kinds() -> None:
    options = {"table": "bars", "deep": True, "days": 3, "pace": 1.5}
    made = Config.model_validate({"universe": {"source": "m:N", "source_options": options}})
    assert json.dumps(made.resolved()["universe"]["source_options"]) == json.dumps(options)


# What fetch returns.


def test_a_wrong_answer_is_reported_by_symbol_and_stores_nothing(nextday: CommandLine) -> None:
    Path("my_half.py").write_text(textwrap.dedent("""
        import pandas as pd

        class Mine:
            def fetch(self, symbol, start, end, now):
                days = pd.bdate_range("2018-12-10", "2018-12-20")
                bars = pd.DataFrame({"date": days, "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0})
                if symbol == "WRONG":
                    bars["close"] = ["1.0"] * len(days)
                if symbol == "FALLS":
                    return bars["closing"]
                return bars
    """))  # fmt: skip
    settings = "[universe]\nname = 'mine'\nsource = 'my_half:Mine'\nsymbols = [{}]\n"
    Path("nextday.toml").write_text(settings.format("'WRONG', 'FALLS'"))
    said = nextday(*HERE, "update")
    assert said.code == 1
    assert "WRONG: bad_payload: my_half:Mine: '1.0' in close, row 1, is no number" in said.err
    assert (
        "FALLS: bad_payload: my_half:Mine: fetch raised KeyError: 'closing' (my_half.py, line 11)" in said.err
    )
    assert not [name for name in contents(Path("w")) if name.endswith(".parquet")]
    good = "'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'WRONG', 'FALLS'"
    Path("nextday.toml").write_text(settings.format(good))
    assert nextday(*HERE, "update").code == 0
    assert set(PriceStore(Path("w/prices/mine")).read(columns=[])["symbol"]) == set("ABCDEFGH")


def test_bars_of_two_sources_do_not_join(database: Path, nextday: CommandLine) -> None:
    settings = block("nextday.toml") + "[prices]\nstart = 2018-12-10\n"
    Path("nextday.toml").write_text(settings)
    evening = (*HERE[:-1], "2018-12-14T22:00Z", "update")
    assert nextday(*evening).code == 0
    Path("my_moved.py").write_text(block("my_prices.py"))
    Path("nextday.toml").write_text(settings.replace("my_prices:", "my_moved:"))
    said = nextday(*evening)
    assert (said.code, "bars of two vendors cannot be joined" in said.err) == (2, True)
    Path("my_moved.py").write_text(block("my_prices.py") + "    name = 'my_prices:MyDatabase'\n")
    del sys.modules["my_moved"]
    assert nextday(*evening).code == 0


# What fetch raises.


def test_built_in_sources_keep_the_rules(tmp_path: Path) -> None:
    table(symbol="ACME").to_csv(tmp_path / "p.csv", index=False)
    check_source(SampleSource(), "^GSPC", start="2018-12-10", end="2018-12-14", now=NOW)
    files = FilesSource(tmp_path / "p.csv", adjustment="auto", historical=True)
    answer = check_source(files, "ACME", start="2018-12-10", end="2018-12-14", now=NOW)
    assert answer.bars["close"].tolist() == CLOSES


def _growing() -> Callable[[str, pd.Timestamp], pd.DataFrame | None]:
    closes = iter(np.linspace(12.0, 13.0, 50))
    return lambda symbol, start: table(close=next(closes)) if symbol == "ACME" else None


def _relative(symbol: str, start: pd.Timestamp) -> pd.DataFrame | None:
    bars = table()
    return bars.assign(volume=1.0 * (bars["date"] - start).dt.days) if symbol == "ACME" else None


def _by_symbol(bars: pd.DataFrame) -> Callable[[str, pd.Timestamp], pd.DataFrame | None]:
    return lambda symbol, start: bars if symbol == "ACME" else None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (_by_symbol(table(divdend=0.0)), "ACME: nextday would ignore the columns divdend"),
        (_by_symbol(table(date=pd.to_datetime([DAYS[0], *DAYS[:4]]))), "2018-12-10: the session has two rows"),
        (_by_symbol(table(close=[12, 12, np.nan, 12, 12])), "2018-12-12: a price is missing"),
        (_by_symbol(table(high=1.0)), "2018-12-10: high is below another price: open 12, high 1"),
        (_by_symbol(table(volume=-1)), "volume is negative"),
        (_by_symbol(table(dividend=-0.5)), "dividend is negative"),
        (_growing(), "asked twice, it returns other values"),
        (_relative, "2018-12-12: asked from 2018-12-12 on, it returns other values"),
        (table(), "a symbol that does not exist (NO-SUCH-SYMBOL.0) must be empty or not_found, not ok"),
        (lambda symbol, start: {"ACME": table()}[symbol], "not bad_payload: MadeSource: fetch raised KeyError"),
        (None, "ACME from 2018-12-10 to 2018-12-14: empty"),
    ],
)  # fmt: skip
def test_the_conformance_test_names_each_planted_fault(answer: object, words: str) -> None:
    with pytest.raises(ConformanceError) as caught:
        check_source(MadeSource(answer), "ACME", start="2018-12-10", end="2018-12-14")
    assert words in str(caught.value)


def test_the_conformance_test_wants_the_symbol_in_the_list_and_an_object() -> None:
    with pytest.raises(ConformanceError, match="does not list ACME"):
        check_source(MadeSource(known, symbols=lambda: ["BOLT"]), "ACME", start=START, end=END)
    with pytest.raises(ConformanceError, match="the class itself"):
        check_source(MadeSource, "ACME", start=START, end=END)
    assert check_source(MadeSource(known), "ACME", start=START, end=END).outcome == "ok"
