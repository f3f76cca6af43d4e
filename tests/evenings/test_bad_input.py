"""Whatever a list, a setting, a ledger, a model or a workspace holds: it is named, with its place and the fix,
and a workspace in use stays as it was. Files of prices have tests/evenings/test_bad_prices.py."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import InputError
from pipeline.ledger import hash_chain, known_head
from tests.support import in_use
from tests.support.command_line import HERE, CommandLine, told
from tests.support.in_use import GOOD, refused, universe

nextday, never_hangs, used = in_use.nextday, in_use.never_hangs, in_use.used


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
        (b"symbol,from,FROM\nA,,\n", "at most one 'from'"),
        (b"symbol\n", "The universe file has no row"),
        (b"symbol,from\n,\n", "No symbol can be named ''"),
        (b"symbol\nA,2018-01-03\n", "Expected 1 fields"),
        (b"symbol,from\nA,31.12.2018\n", "'31.12.2018' in the column 'from' is not a date"),
        (b"symbol,to\nA,20181231\n", "'20181231' in the column 'to' is not a date"),
        (b"symbol,from,to\nA,2018-12-01,2017-01-01\n", "before it joins"),
        (b"symbol,to\nA,2018-11-20\n", "The universe 'u' has no constituent on 2018-12-14"),
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
    refused(nextday, "The universe file cannot be read", str(Path.cwd() / "list.csv"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (universe('path = "prices.csv"', "strat = 2018-11-01"), "did you mean 'start'?"),
        (universe('path = "prices.csv"', "[prises]"), "did you mean 'prices'?"),
        (universe('path = ""'), "universe: source = 'files' needs path"),
        (universe('path = "prices.csv"\nsymbols = ["A", "A"]'), "universe: symbols contains a symbol twice"),
        (universe('path = "prices.csv"\nsymbols = ["../A"]'), "universe.symbols.0: '../A'"),
        (universe('path = "prices.csv"\nsymbols = ["ZZZ"]'), "ZZZ: not_found"),
        (universe('path = "prices.csv"\ncalendar = "../XNYS"'), "There is no calendar '../XNYS'"),
        (universe('path = "prices.csv"', "[model]\nunits = true"), "model.units: true and false are not valid"),
        (universe('path = "prices.csv"', "[model]\nunits = 1.5"), "model.units"),
        (universe('path = "prices.csv"', f"[model]\nunits = {'9' * 99}"), "model.units"),
        (universe('path = "prices.csv"', "[training]\nclip_norm = inf"), "training.clip_norm"),
        (universe('path = "prices.csv"', "[training]\nlearning_rate = nan"), "training.learning_rate"),
        (universe('path = "prices.csv"', "[model]\nkind = 'transformer'"), "model.kind"),
        (universe('path = "prices.csv"').replace("2018-11-01", "'1.11.2018'"), "start: it is not a date; write"),
        (universe('path = "prices.csv"').replace("2018-11-01", "0001-01-01"), "prices.start"),
        (universe('path = "prices.csv"').replace('"u"', '"../u"'), "universe.name: '../u'"),
        ("universe = 3", "universe: it is a section"),
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
    assert "No row has both features and a label" in told(said)[0]
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
    monkeypatch.setattr(hash_chain, "_BUSY_SECONDS", 0.1)
    monkeypatch.setattr(known_head, "_LOOK_SECONDS", 0.1)
    path = Path("w/ledger.sqlite")
    if damage == "no ledger":
        path.write_bytes(b"no ledger at all" * 100)
        refused(nextday, "This file is not a ledger", str(path.resolve()), code=1, command=command)
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
    with pytest.raises(InputError):
        nextday("--debug", *HERE, "update")
