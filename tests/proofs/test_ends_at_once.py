"""At the keyboard: Ctrl+C, a closed terminal or a stopped service ends every long command at once, at any moment."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from tests.conftest import PROJECT, network_settings
from tests.support.mortal import halves
from tests.support.prefect_place import prefect_home
from tests.support.terminal import Session

pytestmark = pytest.mark.proof

CTRL_C = b"\x03"
WALK = "\n[backtest]\ntrain_sessions = 300\nrefit_sessions = 200\n"
SETTINGS = network_settings("2014-01-02", members=2, epochs=2) + WALK
SOON, WHILE_TRAINING = 5.0, 10.0
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
SEED = 4


def start(folder: Path, home: Path, command: str) -> Session:
    (folder / "nextday.toml").write_text(SETTINGS)
    options = ["--config", str(folder / "nextday.toml"), "--home", str(home), "--now", "2018-12-10T22:00Z"]
    places = os.pathsep.join([str(PROJECT), *filter(None, sys.path)])
    return Session(
        [sys.executable, "-c", "from nextday_command import main; main()", *options, command],
        {**os.environ, "PYTHONPATH": places, "PREFECT_HOME": str(prefect_home(folder / "prefect"))},
    )


def tell(session: Session, number: signal.Signals) -> None:
    """Press Ctrl+C twice, as the impatient do, or send another signal to the whole group."""
    if number == signal.SIGINT:
        session.press(CTRL_C * 2)
    else:
        with suppress(ProcessLookupError):
            os.killpg(session.process.pid, number)


@pytest.mark.parametrize(
    ("command", "stage", "number"),
    [
        ("forecast", "Settings", signal.SIGINT),
        ("forecast", "fetched from", signal.SIGTERM),
        ("forecast", "fitting gru", signal.SIGINT),
        ("forecast", "fitted through", signal.SIGTERM),
        ("forecast", "promoted", signal.SIGHUP),
        ("retrain", "fitting gru", signal.SIGHUP),
        ("retrain", "fitting logistic_regression", signal.SIGINT),
        ("backtest", "fetched from", signal.SIGHUP),
        ("backtest", "train", signal.SIGINT),
    ],
)
def test_a_command_that_is_told_to_end_ends_at_once_and_leaves_nothing(
    tmp_path: Path, command: str, stage: str, number: signal.Signals
) -> None:
    home, moment = tmp_path / "home", Random(f"{SEED} {command} {stage} {number}")
    session = start(tmp_path, home, command)
    assert session.shows(stage), session.written
    with suppress(subprocess.TimeoutExpired):
        session.process.wait(moment.uniform(0, 2))
    before = len(session.written)
    tell(session, number)
    code, seconds = session.end(60)
    said = session.written[before:].replace("^C", "").strip()
    assert code in (CODES[number], 0), session.written  # the last stage may be over
    assert seconds < (WHILE_TRAINING if "fitt" in stage or "train" in stage else SOON)
    assert code == 0 or "Traceback" not in said, said
    assert code == 0 or "rror" not in said, said
    assert session.has_cursor
    assert not home.exists() or halves(home) == []
