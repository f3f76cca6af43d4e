"""Twenty simulated evenings, killed on the way, beside the same run one by one, each in a process of its own."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGKILL

import pandas as pd
import pytest
from prefect.settings import PREFECT_API_URL

from flows.nightly import nightly
from flows.runtime.context import open_run
from flows.simulation.timetable import Start, plan_starts
from pipeline.ledger.ledger import Ledger
from pipeline.prices.store import PriceStore
from pipeline.schema import FORECASTS
from pipeline.storage.simulation_note import read_note
from pipeline.tracking.challengers import ChallengerBook
from tests.conftest import PROJECT, network_settings

pytestmark = [pytest.mark.proof, pytest.mark.usefixtures("prefect_server")]

FIRST, LAST = "2018-11-15", "2018-12-14"
SETTINGS = network_settings() + "\n[promotion]\nmin_sessions = 3\nmax_age = 5\n"
COMMANDS = {"nightly": "forecast", "retrain": "retrain", "maintenance": "maintain"}


class Month:
    """Settings, and `nextday` with them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.config = folder, folder / "nextday.toml"
        self.server = str(PREFECT_API_URL.value())
        self.config.write_text(SETTINGS)

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        server = {"PYTHONPATH": str(PROJECT), "PREFECT_API_URL": self.server}
        command = [sys.executable, "-m", "flows.cli.app", "--config", str(self.config), *arguments]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=os.environ | server,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def nextday(self, *arguments: str) -> None:
        assert self.start(*arguments).wait(900) == 0, (self.folder / "log").read_text()[-3000:]

    def simulate(self, into: str, last: str = LAST) -> tuple[str, ...]:
        return ("simulate", "--from", FIRST, "--to", last, "--into", str(self.folder / into))

    def plan(self, home: str) -> list[Start]:
        run = open_run(self.config, self.folder / home, datetime.now(UTC))
        return plan_starts(run, pd.Timestamp(FIRST), pd.Timestamp(LAST))

    def ledger(self, home: str) -> Ledger:
        return Ledger(self.folder / home / "ledger.sqlite", read_only=True)

    def rows(self, home: str, role: str) -> pd.DataFrame:
        return self.ledger(home).record("sample", role=role)


def kill_after(process: "subprocess.Popen[bytes]", note: Path, session: str) -> None:
    """Kill a simulation and its children once it has come to a session."""
    end = time.monotonic() + 900
    while time.monotonic() < end and process.poll() is None:
        if note.exists() and (found := read_note(note)) and found.done > session:
            break
        time.sleep(0.05)
    assert process.poll() is None
    os.killpg(process.pid, SIGKILL)
    process.wait(30)


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Month:
    """Return the month, simulated in `whole` and run one by one in `single`: side by side, for there are two cores."""
    made = Month(tmp_path_factory.mktemp("month"))
    with ThreadPoolExecutor(2) as both:
        for made_one in [both.submit(work, made) for work in (simulate_whole, run_one_by_one)]:
            made_one.result()
    return made


def simulate_whole(month: Month) -> None:
    for session in ("2018-11-16", "2018-12-06"):  # before a training, and before a promotion
        kill_after(month.start(*month.simulate("whole")), month.folder / "whole" / "simulation.json", session)
    month.nextday(*month.simulate("whole"))


def run_one_by_one(month: Month) -> None:
    month.nextday(*month.simulate("single", last=FIRST))
    for start in month.plan("single")[1:]:
        home = ("--home", str(month.folder / "single"))
        month.nextday(*home, "--now", start.at.isoformat(), COMMANDS[start.flow])


def test_the_ledger_of_a_simulation_is_that_of_evenings_run_one_by_one(month: Month) -> None:
    assert [start.flow for start in month.plan("whole")].count("nightly") == 20
    for role in ("champion", "challenger"):
        whole, single = month.rows("whole", role), month.rows("single", role)
        assert len(whole) >= (40 if role == "champion" else 10)
        pd.testing.assert_frame_equal(whole, single, check_exact=True)  # instants and digests too
    assert month.ledger("whole").head() == month.ledger("single").head()
    assert month.ledger("whole").verify().ok


def test_the_models_the_prices_and_the_tables_are_the_same_too(month: Month) -> None:
    whole, single = (month.folder / name for name in ("whole", "single"))
    promotions = ChallengerBook(whole).promotions("sample")
    assert len(promotions) > 1
    assert promotions == ChallengerBook(single).promotions("sample")
    assert ChallengerBook(whole).challengers("sample") == ChallengerBook(single).challengers("sample")
    prices = [PriceStore(home / "prices" / "sample").read() for home in (whole, single)]
    pd.testing.assert_frame_equal(*prices, check_exact=True)
    tables = {path.relative_to(whole) for path in whole.glob("reports/**/*.csv")}
    assert len(tables) > 40
    assert [path for path in tables if (whole / path).read_bytes() != (single / path).read_bytes()] == []


def test_beside_an_ordinary_workspace_only_the_names_of_settings_and_model_differ(
    month: Month, tmp_path: Path
) -> None:
    start = month.plan("whole")[0]
    nightly.fn(config=month.config, home=tmp_path, now=start.at)
    ordinary = Ledger(tmp_path / "ledger.sqlite").record("sample")
    simulated = month.rows("whole", "champion").head(len(ordinary))
    names = [name for name in FORECASTS.columns if name not in ("config_digest", "model_version")]
    pd.testing.assert_frame_equal(simulated[names], ordinary[names], check_exact=True)
    assert (simulated["config_digest"] != ordinary["config_digest"]).all()
