"""Names from files are untrusted, no file is unpickled, no page opens a server to the world, no secret is written."""

import csv
import io
import json
import pickle
import sqlite3
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
from prefect import Flow, Task
from yfinance.data import SingletonMeta

from flows import maintenance, nightly, retrain
from flows.evening import forecasting, reporting
from flows.prices import fetch
from flows.runtime.context import open_run, with_former_settings
from flows.training import train
from models.ensembles.model_files import model_version
from models.errors import ModelError
from pipeline.config import Config, UniverseConfig
from pipeline.errors import InputError, NextdayError
from pipeline.market.calendar import Calendar
from pipeline.market.universe import universe
from pipeline.report.evening_page import render
from pipeline.schema import FORECASTS, PRICES, find_bad_symbol, validated
from pipeline.sources.files import FilesSource
from pipeline.sources.yahoo import YahooSource
from pipeline.storage.csv_output import disarm
from pipeline.storage.workspace import Workspace
from pipeline.tracking.registry import Registry
from pipeline.tracking.runs import Tracking
from tests.conftest import NOW, PROJECT, prices_of, vendor_bars
from tests.pipeline.report.test_files import a_report, forecasts
from tests.support.watched import SECRET, Trap, holding
from tests.support.yahoo_market import Stock
from tests.support.yahoo_server import YahooServer

pytestmark = pytest.mark.slow

HOSTILE = [
    "../../etc/passwd", "a/../b", "/a", "a/", "a//b", "a\\b", "..", ".hidden", "~root", "A B", "A\n",
    "A\r", "A\0", "=1+1", "+A", "-A", "@A",
    "＝A", "<script>", "A;B", "A,B", "'A", '"A', "🚀", "\u202eA", "Ａ", "%2e", "$A", "A" * 33, "",
]  # fmt: skip


@pytest.mark.parametrize("symbol", HOSTILE)
def test_one_pattern_stands_at_every_door_that_a_symbol_can_come_through(
    symbol: str, tmp_path: Path, xnys: Calendar
) -> None:
    row = {"Date": "2018-12-10", "Symbol": symbol, "Open": 1, "High": 1, "Low": 1, "Close": 1}
    pd.DataFrame([row]).to_parquet(tmp_path / "long.parquet")
    pd.DataFrame([{"symbol": symbol, "name": "x"}]).to_csv(tmp_path / "list.csv", index=False)
    assert find_bad_symbol(pd.Series(["A", symbol])) == 1
    with pytest.raises(ValueError, match="symbols"):
        UniverseConfig(source="yahoo", symbols=(symbol,))
    if symbol.strip() != "A":  # blanks around a name are no part of it
        with pytest.raises(InputError, match="No symbol can be named"):
            universe(UniverseConfig(name="u", file="list.csv"), tmp_path, [])
        with pytest.raises(InputError, match="No symbol can be named"):
            FilesSource(tmp_path / "long.parquet", adjustment="raw", historical=True).symbols()
    good = prices_of({"A": vendor_bars(pd.DatetimeIndex(["2018-12-10"]), [10.0])}, xnys)
    with pytest.raises(NextdayError, match="symbol_pattern"):
        validated(good.assign(symbol=symbol), PRICES)
    issued = forecasts("A").drop(columns="is_new").assign(symbol=symbol)
    with pytest.raises(NextdayError, match="symbol_pattern"):
        validated(issued, FORECASTS)


@pytest.mark.parametrize(
    "name", ["../u", "u/v", "..", ".u", "-u", "U", "u v", "u\n", "u\0", "ü", "u" * 64, ""]
)
def test_no_folder_is_named_by_anything_but_a_plain_universe(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name"):
        Config.model_validate({"universe": {"name": name}})
    for ask in (Registry(tmp_path, model_version).champion, Tracking(tmp_path, model_version).champion):
        with pytest.raises(InputError, match="cannot name a universe"):
            ask(name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("version", ["../../../elsewhere", "/elsewhere", "..", "."])
def test_a_list_of_models_cannot_lead_out_of_its_folder(version: str, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "model.json").write_text("{}")
    registry = Registry(tmp_path / "w", model_version)
    entry = {"model_version": str(outside) if version == "/elsewhere" else version, "promoted_at": None}
    entry |= {"trained_through": "2018-11-30", "run_id": "r", "number": 1, "tags": {}}
    folder = tmp_path / "w" / "models" / "u"
    folder.mkdir(parents=True)
    (folder / "versions.json").write_text(json.dumps([entry]))
    (folder / "champion.json").write_text(json.dumps(entry))
    for ask in (lambda: registry.champion("u"), lambda: registry.version("u", str(entry["model_version"]))):
        with pytest.raises(NextdayError, match="missing or damaged"):
            ask()


@pytest.mark.parametrize("name", ["../other", "../../outside", "/outside"])
def test_a_digest_in_the_ledger_cannot_have_other_files_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nextday.toml").write_text("")
    run = open_run(Path("nextday.toml"), tmp_path / "w", NOW)
    for place in (tmp_path / "w" / "other.json", tmp_path / "outside.json"):
        place.write_text(json.dumps(run.resolved | {"said": SECRET}))
    with pytest.raises(NextdayError) as refused:
        with_former_settings(run, name)
    assert SECRET not in str(refused.value)


def test_no_text_becomes_a_part_of_the_page() -> None:
    evil = "<script>alert('x')</script><img src=x onerror=alert(1)>"
    finding = {"symbol": [evil], "session": [pd.Timestamp("2018-12-31")], "rule": [evil], "detail": [evil]}
    page = render(
        a_report(
            findings=pd.DataFrame(finding),
            skipped=pd.DataFrame({"symbol": [evil], "reason": [evil]}),
            universe=evil,
            calendar=evil,
            notes=[evil],
            model={"version": evil, "age": evil},
            config_digest=evil,
            ledger_head=evil,
        )
    )
    assert "<script>alert" not in page
    assert "<img" not in page
    assert page.count("&lt;script&gt;alert") >= 6
    assert "javascript:" not in page
    assert "<script src" not in page


FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "＝1",
    "＋1",
    "－1",
    "＠A",
    "=cmd|' /C calc'!A0",
]


@pytest.mark.parametrize("cell", FORMULAS)
def test_a_cell_that_a_spreadsheet_would_run_is_led_by_an_apostrophe(cell: str) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([disarm(cell), "next"])
    (row,) = csv.reader(io.StringIO(text.getvalue()))
    assert row == ["'" + cell.replace("\r", " ").replace("\n", " "), "next"]


@pytest.mark.parametrize("cell", [-1.5, -1, 0.0, None, True, "A", "^GSPC", "a-b", "1=1", "", "2018-12-31"])
def test_a_number_and_a_plain_text_stay_as_they_are(cell: Any) -> None:
    assert disarm(cell) is cell


def test_a_line_break_inside_a_cell_begins_no_row() -> None:
    assert disarm("a\r\n=1+1\rb\nc") == "a  =1+1 b c"


def test_a_poisoned_cookie_cache_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = pickle.dumps(Trap(tmp_path / "sprung"))
    with sqlite3.connect(tmp_path / "cookies.db") as db:
        db.execute(
            "CREATE TABLE _cookieschema (strategy TEXT PRIMARY KEY, fetch_date TEXT, cookie_bytes BLOB)"
        )
        for strategy in ("basic", "csrf"):
            db.execute(
                "INSERT INTO _cookieschema VALUES (?, ?, ?)", [strategy, datetime.now(UTC).isoformat(), trap]
            )
    db.close()
    monkeypatch.setattr(SingletonMeta, "_instances", {})
    days = pd.bdate_range("2024-01-02", "2024-01-31")
    with YahooServer(tmp_path / "server") as server:
        server.stocks["A"] = Stock(
            pd.DataFrame(dict.fromkeys(("open", "high", "low", "close", "volume"), 1.0), days)
        )
        # The password of a proxy belongs into the environment; nothing else is needed.
        monkeypatch.setenv("HTTPS_PROXY", server.proxy.replace("://", f"://me:{SECRET}@"))
        source = YahooSource(cache_dir=tmp_path, ca_bundle=str(server.ca_bundle), requests_per_second=1000)
        found = source.fetch("A", days[0], days[-1], datetime(2024, 2, 1, tzinfo=UTC))
    assert found.outcome == "ok"
    assert not (tmp_path / "sprung").exists()
    assert not holding(SECRET, tmp_path)


def test_the_trap_springs_where_a_pickle_is_loaded(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize("module", [fetch, forecasting, maintenance, nightly, reporting, retrain, train])
def test_prefect_keeps_no_result_of_a_flow_or_a_chapter(module: Any) -> None:
    # Its serializer is pickle.
    kept = [
        one.name
        for one in vars(module).values()
        if isinstance(one, Flow | Task) and one.persist_result is not False
    ]
    assert kept == []


def test_a_workspace_is_for_its_owner_alone(tmp_path: Path) -> None:
    Workspace(tmp_path / "new").create()
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    (tmp_path / "old").mkdir(mode=0o755)
    Workspace(tmp_path / "old").create()
    assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == 0o755


def saved_network() -> Any:
    """Return the description of the saved member."""
    from models.networks.network import Network

    return Network("gru", features=3, lookback=5, units=2)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """Return a folder with one saved member of an ensemble."""
    from models.ensembles.members import Members
    from models.ensembles.model_files import member_file
    from models.networks.recurrent import build
    from models.scaling import Scaling

    scaling = Scaling(np.zeros(3, np.float32), np.ones(3, np.float32))
    Members(saved_network(), scaling, [build(saved_network(), seed=0).get_weights()]).save(tmp_path)
    assert (tmp_path / member_file(1)).is_file()
    return tmp_path


def rewrite(file: Path, change: Callable[[str], str]) -> None:
    with ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["config.json"] = change(parts["config.json"].decode()).encode()
    with ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"class_name": "Dense"', '"class_name": "Lambda"'),
        ('"class_name": "Dense"', '"class_name": "TorchModuleWrapper"'),
        ('"class_name": "Dense"', '"class_name": "TFSMLayer"'),
        ('"module": "keras.layers", "class_name": "GRU"', '"module": "os", "class_name": "system"'),
        ('"module": "keras.layers", "class_name": "GRU"', '"module": "builtins", "class_name": "eval"'),
        (
            '"activation": "linear"',
            '"activation": {"class_name": "function", "module": "os", "config": "abort"}',
        ),
        ('"activation": "linear"', '"activation": {"class_name": "__lambda__", "config": {"value": "x"}}'),
        ('"class_name": "GlorotUniform"', '"class_name": "MyOwn"'),
    ],
)
def test_a_network_that_asks_for_more_than_its_layers_is_refused(network: Path, old: str, new: str) -> None:
    from models.serving.saved_files import read_members

    assert len(read_members(network, saved_network(), 1)[1]) == 1
    rewrite(network / "member-1.keras", lambda text: text.replace(old, new, 1))
    with pytest.raises(ModelError, match="it asks for") as refused:
        read_members(network, saved_network(), 1)
    assert str(network / "member-1.keras") in str(refused.value)


def register(home: Path) -> tuple[Registry, Path]:
    draft = home / "models" / "u" / "draft"
    draft.mkdir(parents=True)
    (draft / "member-1.keras").write_bytes(b"weights")
    digest = sha256(b"weights").hexdigest()
    (draft / "model.json").write_text(json.dumps({"files": {"member-1.keras": digest}}))
    name = model_version(draft)
    registry = Registry(home, model_version)
    folder = draft.rename(draft.with_name(name))
    registry.add("u", name, "run", 1, {"trained_through": "2018-11-30"})
    registry.promote("u", name, NOW)
    return registry, folder


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "member-1.keras").write_bytes(b"Weights"),
        lambda folder: (folder / "member-2.keras").write_bytes(b"weights"),
        lambda folder: (folder / "member-1.keras").unlink(),
        lambda folder: (folder / "model.pkl").write_bytes(b""),
        lambda folder: (folder / "model.json").write_text(
            json.dumps({"files": {"member-1.keras": sha256(b"Weights").hexdigest()}})
        ),
    ],
)
def test_a_model_whose_files_are_not_those_of_the_registry_never_serves(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    registry, folder = register(tmp_path)
    assert registry.champion("u") is not None
    change(folder)
    for ask in (lambda: registry.champion("u"), lambda: registry.version("u", folder.name)):
        with pytest.raises(NextdayError, match="missing or damaged"):
            ask()


@pytest.mark.parametrize("page", ["README.md", "docs/operations.md", "docs/security.md", "docs/systemd"])
def test_no_page_tells_anybody_to_open_a_server_to_the_world(page: str) -> None:
    path = PROJECT / page
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    for file in files:
        lines = [
            line for line in file.read_text().splitlines() if "server start" in line or "mlflow ui" in line
        ]
        assert all("--host 127.0.0.1" in line for line in lines), lines
        assert "0.0.0.0" not in file.read_text()
