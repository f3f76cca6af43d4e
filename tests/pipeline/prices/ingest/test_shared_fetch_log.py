"""Fetch logs on PostgreSQL: one for all machines, taken over from a file, copied there and back."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from pipeline.errors import InputError, StoreError, StoreUnreachableError
from pipeline.ledger.ledger import Ledger
from pipeline.prices.ingest.fetch_log import Answer, FetchLog
from pipeline.prices.ingest.fetch_log_tables import copy_logs, list_logs, open_tables
from pipeline.storage.ledger_database import FetchLogDatabase
from pipeline.storage.workspace import Workspace
from tests.pipeline.prices.ingest.test_fetch_log import ENTRY, MONDAY, NOW, log_line

OTHER = replace(ENTRY, instrument_id="B", symbol="B")

Open = Callable[..., FetchLog]


@pytest.fixture
def machine(address: str, tmp_path: Path) -> Open:
    """Open the log as a machine with a workspace of its own sees it."""

    def opened(name: str, universe: str = "u") -> FetchLog:
        return FetchLog(Workspace(tmp_path / name, address).fetch_log(universe))

    return opened


def content(log: FetchLog) -> list[object]:
    return [
        sorted(open_tables(log.place).select(f"SELECT * FROM {name}")) for name in ("answers", "quarantine")
    ]


def test_what_one_machine_logs_another_one_reads_and_universes_are_apart(machine: Open) -> None:
    machine("one").record_quarantine("held", [ENTRY], NOW)
    log_line(machine("two"), "on")
    assert machine("three").quarantined() == {"A": ENTRY}
    assert machine("one").not_found_streaks() == {"A": 1}
    assert machine("one", "v").quarantined() == {}
    machine("one", "v").record_quarantine("held", [OTHER], NOW)
    assert [*machine("two").quarantined()] == ["A"]
    assert [*machine("two", "v").quarantined()] == ["B"]


def test_machines_that_begin_a_log_at_once_number_every_event(machine: Open) -> None:
    def hold(number: int) -> None:
        for _ in range(3):
            machine(f"m{number}").record_quarantine("held", [ENTRY, OTHER], NOW)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(hold, range(4)))
    found = open_tables(machine("reader").place).select("SELECT id FROM quarantine ORDER BY id")
    assert found == [(number,) for number in range(1, 25)]


@pytest.mark.parametrize("first", ["read", "write"])
def test_the_first_use_takes_over_the_file_of_before_and_no_later_one(
    machine: Open, tmp_path: Path, first: str
) -> None:
    before = FetchLog(Workspace(tmp_path / "one").fetch_log("u"))
    log_line(before, "on")
    before.record_quarantine("held", [ENTRY], NOW)
    late = FetchLog(Workspace(tmp_path / "two").fetch_log("u"))
    late.record_quarantine("held", [OTHER], NOW)
    if first == "write":
        machine("one").record_quarantine("released", [ENTRY], NOW)
    assert machine("one").quarantined() == {"A": replace(ENTRY, is_released=first == "write")}
    assert machine("one").not_found_streaks() == {"A": 1}
    assert [*machine("two").quarantined()] == ["A"]
    assert [*late.quarantined()] == ["B"]  # it stays where it is


def test_logs_go_to_postgresql_and_back_and_an_interrupted_copy_is_completed(
    address: str, tmp_path: Path
) -> None:
    home, back = Workspace(tmp_path / "home"), Workspace(tmp_path / "back")
    for name in ("u", "v"):
        log_line(FetchLog(home.fetch_log(name)), "onnt")
    FetchLog(home.fetch_log("u")).record_quarantine("held", [ENTRY, OTHER], NOW)
    there = Workspace(tmp_path / "elsewhere", address)
    assert (list_logs(home), list_logs(there)) == (["u", "v"], [])
    copy_logs(home, there, ["v"])  # one of two
    copy_logs(home, there, list_logs(home))
    FetchLog(there.fetch_log("u")).record_quarantine("ended", [ENTRY], NOW)
    assert list_logs(there) == ["u", "v"]
    copy_logs(there, back, list_logs(there))
    copy_logs(there, home, list_logs(there))  # onto what is part of it
    for name in ("u", "v"):
        assert content(FetchLog(back.fetch_log(name))) == content(FetchLog(there.fetch_log(name)))
        assert content(FetchLog(home.fetch_log(name))) == content(FetchLog(there.fetch_log(name)))
    assert [*FetchLog(back.fetch_log("u")).quarantined()] == ["B"]


def test_another_log_is_never_mixed_with_the_copy(address: str, tmp_path: Path) -> None:
    home, there = Workspace(tmp_path / "home"), Workspace(tmp_path / "elsewhere", address)
    FetchLog(home.fetch_log("u")).record_quarantine("held", [ENTRY], NOW)
    FetchLog(there.fetch_log("u")).record_quarantine("held", [OTHER], NOW)
    for source, target in ((home, there), (there, home)):
        before = content(FetchLog(target.fetch_log("u")))
        with pytest.raises(InputError, match="Another fetch log lies there already") as refused:
            copy_logs(source, target, ["u"])
        assert refused.value.where == str(target.fetch_log("u"))
        assert content(FetchLog(target.fetch_log("u"))) == before


def test_the_ledger_and_the_fetch_log_do_not_touch_each_other(address: str, tmp_path: Path) -> None:
    place = Workspace(tmp_path, address)
    FetchLog(place.fetch_log("u")).record_quarantine("held", [ENTRY], NOW)
    assert Ledger(place.ledger).verify().problems == []
    assert [*FetchLog(place.fetch_log("u")).quarantined()] == ["A"]


def test_a_newer_log_and_another_table_are_refused(machine: Open) -> None:
    log = machine("one")
    log.record(MONDAY, [Answer("A", "ok", False, MONDAY, NOW)])
    assert isinstance(log.place, FetchLogDatabase)
    schema = log.place.database.schema
    for comment, told in (("nextday fetch log, layout 2", "newer nextday"), ("mine", "it is no fetch log")):
        with psycopg.connect(log.place.ledger.dsn, autocommit=True) as db:
            db.execute(f"COMMENT ON TABLE {schema}.answers IS '{comment}'".encode())
        with pytest.raises(StoreError, match=told) as refused:
            log.quarantined()
        assert refused.value.where == str(log.place)


def test_a_database_that_is_down_is_told_with_exit_code_2(tmp_path: Path) -> None:
    place = Workspace(tmp_path, "postgresql://me@127.0.0.1:1/desk?schema=quant").fetch_log("u")
    for use in (FetchLog(place).quarantined, lambda: FetchLog(place).record(MONDAY, [])):
        with pytest.raises(StoreUnreachableError, match="The fetch log's database cannot be reached") as down:
            use()
        assert down.value.exit_code == 2
        assert down.value.where == "postgresql://me@127.0.0.1:1/desk?schema=quant_fetches"
