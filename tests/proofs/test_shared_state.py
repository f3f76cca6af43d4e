"""Evenings whose ledger and fetch log are on PostgreSQL and whose prices are on an object store.

They end as in a folder: in the same head, rows and prices, whatever was killed meanwhile: the run, the database, the
connections to the object store; and when two machines do the same evening at once.
"""

import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pipeline.errors import StoreUnreachableError
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.migration import migrate
from pipeline.prices.copying import copy_prices
from pipeline.prices.ingest.fetch_log_tables import copy_logs, open_tables
from pipeline.prices.location import open_store
from pipeline.prices.store import PriceStore
from pipeline.storage.workspace import Workspace
from pipeline.storage_config import StorageConfig
from tests.conftest import small_settings
from tests.support.mortal import Moment, Mortal, server_of_runs, timed_lines
from tests.support.object_store import BUCKET, SECRET, ObjectStore
from tests.support.postgres_server import PostgresServer
from tests.support.prefect_place import Place as PrefectPlace

pytestmark = pytest.mark.proof

FIRST, LATER = "2018-12-27T23:00Z", "2018-12-28T23:00Z"
SETTINGS = small_settings(test_sessions=100) + '[universe]\nname = "sample"\nsource = "remote:Remote"\n'
SOURCE = """
from pipeline.sources.sample import SampleSource

class Remote(SampleSource):  # its answers are logged
    name, is_local = "remote", False
"""
ANSWERS = "SELECT symbol, session, outcome, is_whole, asked_from, bars FROM answers"
EVENTS = "SELECT id, symbol, event, rule FROM quarantine"
_NUMBERS = count(1)


@dataclass(frozen=True)
class Machine:
    """A machine with a workspace of its own, whose shared state lies at a ledger's and at the prices' address."""

    folder: Path
    ledger: str = ""
    prices: str = ""

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.home, self.ledger)

    @property
    def store(self) -> PriceStore:
        return open_store(self.workspace, StorageConfig(prices=self.prices), "sample")

    def configure(self, storage: str = "") -> None:
        (self.folder / "nextday.toml").write_text(SETTINGS + storage)
        (self.folder / "remote.py").write_text(SOURCE)

    def start(self, *command: str, now: str = LATER) -> Mortal:
        return Mortal(self.folder, self.home, now, *command)

    def run(self, *command: str, now: str = LATER, code: int = 0) -> str:
        """Run a command that ends with this code; return all that it printed."""
        run = self.start(*command, now=now)
        ended = run.end()
        said = "\n".join(run.said()) + Path(f"{run.log}.out").read_text()
        assert ended == code, said
        assert "Traceback" not in said
        assert SECRET not in said
        return said

    def state(self) -> dict[str, Any]:
        """Return what equal histories have in common."""
        verified, versions = Ledger(self.workspace.ledger, read_only=True).verify(), self.store.versions()
        assert verified.problems == []
        assert not versions.duplicated(["symbol", "session", "seq"]).any()
        assert self.store.count_unchecked() == 0
        log = open_tables(self.workspace.fetch_log("sample"))
        return {
            "head": verified.head,
            "rows": (verified.batches, verified.forecasts, verified.outcomes),
            "prices": versions.sort_values(["symbol", "session", "seq"]).to_csv(index=False),
            "events": sorted(log.select(EVENTS)),
            "answers": {*log.select(ANSWERS)},
        }

    def require(self, wanted: dict[str, Any], told: object = "") -> None:
        """Compare with an undisturbed evening; an answer whose bars were stored just before a kill is not logged."""
        found = self.state()
        assert found.pop("answers") <= wanted["answers"], told
        assert found == {name: each for name, each in wanted.items() if name != "answers"}, told


@dataclass(frozen=True)
class Desk:
    """The servers, a workspace after its first evening, and its state after a second one that nobody disturbed."""

    folder: Path
    postgres: PostgresServer
    first: Machine
    wanted: dict[str, Any]

    def machines(self, number: int = 1) -> list[Machine]:
        """Return machines that share the state after the first evening."""
        name = f"desk{next(_NUMBERS)}"
        ledger, prices = self.postgres.address(name), f"s3://{BUCKET}/{name}"
        made = [self.make(f"{name}-{each}", ledger, prices) for each in range(number)]
        copy_prices(self.first.store, made[0].store)
        migrate(
            self.first.workspace.ledger,
            made[0].workspace.ledger,
            copy_the_rest=lambda: copy_logs(self.first.workspace, made[0].workspace, ["sample"]),
        )
        return made

    def make(self, name: str, ledger: str, prices: str) -> Machine:
        """Return a machine that has the champion, and no ledger and prices of its own."""
        made = Machine(self.folder / name, ledger, prices)
        own = shutil.ignore_patterns("ledger.*", "prices", "cache", "locks")
        shutil.copytree(self.first.home, made.home, ignore=own)
        storage = f'[storage]\nledger = "{ledger}"\nprices = "{prices}"\n'
        made.configure(storage)
        return made


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, object_server: ObjectStore) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("shared")
    postgres, prefect = PostgresServer(folder / "postgres"), PrefectPlace(folder, SETTINGS)
    quiet = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL", "TF_CPP_MIN_LOG_LEVEL": "3"}
    postgres.start()
    try:
        with prefect.server(), server_of_runs(prefect.environment | quiet | object_server.environment):
            first, second = Machine(folder / "first"), Machine(folder / "second")
            first.folder.mkdir()
            first.configure()
            first.run("forecast", now=FIRST)
            shutil.copytree(first.folder, second.folder)
            second.run("forecast")
            wanted = second.state()
            assert len(wanted["answers"]) == 4  # two symbols on two evenings
            yield Desk(folder, postgres, first, wanted)
    finally:
        postgres.stop()


def lines_of(desk: Desk) -> list[tuple[float, str]]:
    """Follow an evening that nobody disturbs; it ends as in a folder."""
    (machine,) = desk.machines()
    run = machine.start("forecast")
    lines = timed_lines(run)
    assert run.end() == 0, run.said()
    assert machine.state() == desk.wanted
    return lines


def draw(lines: list[tuple[float, str]], chance: Random, number: int) -> list[Moment]:
    """Draw moments of a run, each after a line of it, in their order."""
    places = sorted(chance.choices(range(len(lines) - 1), k=number))
    longest = [max(lines[at + 1][0] - lines[at][0], 0.05) for at in places]
    return [Moment(lines[at][1], chance.uniform(0, most)) for at, most in zip(places, longest, strict=True)]


def test_a_run_that_is_killed_at_any_moment_is_finished_by_the_next(desk: Desk, s3: ObjectStore) -> None:
    moments = draw(lines_of(desk), Random(41), 4)
    (machine,) = desk.machines()
    struck = sum(moment.strike(machine.start("forecast")) for moment in moments)
    assert struck >= 2, moments
    machine.run("forecast")
    machine.require(desk.wanted, moments)


def test_a_database_that_is_killed_at_any_moment_costs_the_run_and_no_row(
    desk: Desk, s3: ObjectStore
) -> None:
    (machine,) = desk.machines()
    failed, chance = 0, Random(42)
    for line in ("fetched from", "checked", "settled", "sealed"):
        run = machine.start("forecast")
        run.reaches(line)
        time.sleep(chance.uniform(0, 0.2))
        desk.postgres.crash()
        ended = run.end()
        if ended:
            assert (ended, f"127.0.0.1:{desk.postgres.port}" in run.error()) == (2, True), run.said()
            failed += 1
        desk.postgres.start()
    assert failed >= 2
    said = machine.run("forecast")
    machine.require(desk.wanted, said)


def test_an_object_store_that_ends_amid_an_append_or_a_copy_loses_nothing(
    desk: Desk, s3: ObjectStore
) -> None:
    (machine,) = desk.machines()
    for part in ("/year=", "/_delta_log/0", "/_checksums"):
        with s3.fault("down", "PUT", part):
            said = machine.run("forecast", code=2)
        assert f"{machine.prices}/sample at {s3.endpoint}" in said
    machine.run("forecast")
    machine.require(desk.wanted)
    other = desk.make("copied", machine.ledger, f"{machine.prices}-copied")
    for part in ("/_checksums", "/year=2017", "/_delta_log/0"):
        with s3.fault("down", "PUT", part), pytest.raises(StoreUnreachableError):
            copy_prices(machine.store, other.store)
    copy_prices(machine.store, other.store)
    other.require(desk.wanted)


def test_two_machines_that_do_the_same_evening_at_once_do_it_once(desk: Desk, s3: ObjectStore) -> None:
    machines = desk.machines(2)
    runs = [machine.start("forecast") for machine in machines]
    assert [run.end() for run in runs] == [0, 0], [run.said() for run in runs]
    for machine in machines:
        machine.require(desk.wanted)


def test_an_outage_is_told_and_every_command_works_on_what_is_shared(desk: Desk, s3: ObjectStore) -> None:
    machine, other = desk.machines(2)
    desk.postgres.stop(signal.SIGINT)
    try:
        for command in ("forecast", "update"):
            assert f"127.0.0.1:{desk.postgres.port}" in machine.run(command, code=2)
    finally:
        desk.postgres.start()
    with s3.fault("500"):
        assert machine.prices in machine.run("forecast", code=2)
    machine.run("forecast")
    assert not (machine.home / "ledger.sqlite").exists()
    assert not (machine.home / "prices").exists()

    head = desk.wanted["head"].hash
    files = {name: str(machine.folder / name) for name in ("l.csv", "p.csv", "published")}
    for command in (
        ("ledger", "show"), ("ledger", "export", "--csv", files["l.csv"]), ("replay", "2018-12-28"), ("report",),
        ("site", "--rebuild"), ("publish", "--to", files["published"]), ("settle",), ("prices", "check"),
        ("prices", "export", "--csv", files["p.csv"]), ("prices", "quarantine", "list", "--all"),
        ("models", "list"), ("maintain",),
    ):  # fmt: skip
        machine.run(*command)
    doctor = machine.start("doctor")
    assert doctor.end() in {0, 1}  # no deployment is on the Prefect server
    checked = Path(f"{doctor.log}.out").read_text()
    assert all(
        each in checked for each in ("prices reach 2018-12-28", "no symbol is in quarantine", "ledger: ")
    )
    said = machine.run("backup", str(machine.folder / "copies"))
    assert f"prices: not in this backup, they lie on {machine.prices}" in said

    # Another machine sees the same record, prices and answers.
    assert head in other.run("ledger", "verify")
    assert "2018-12-28" in other.run("prices", "show", "^GSPC")
    assert "nothing new" in other.run("forecast")
    assert other.state() == machine.state() == desk.wanted

    # A restored backup has ledger and fetch log as files, with the same seals.
    back = Machine(desk.folder / "back", prices=machine.prices)
    back.folder.mkdir()
    back.configure(f'[storage]\nprices = "{machine.prices}"\n')
    back.run("restore", str(machine.folder / "copies"))
    assert back.state() == desk.wanted
