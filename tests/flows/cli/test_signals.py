"""Ctrl+C, SIGTERM and SIGHUP end a command soon, whatever it is in the middle of."""

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flows.cli import failures

DEAF = """
import sys, threading, time
from pathlib import Path
from flows.cli.failures import ended_by_signals
from pipeline.storage.files import atomic_write, claimed_folder

def fail():
    while True:
        time.sleep(0.1)
        threading.Thread(target=lambda: 1 / 0).start() if find() else None

with ended_by_signals() as find, claimed_folder(Path(sys.argv[1]), ".scratch."), atomic_write(Path(sys.argv[1]) / "a"):
    threading.Thread(target=fail, daemon=True).start()
    print("ready", flush=True)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
"""

HEEDS = """
import signal, sys, time
from flows.cli.failures import ended_by_signals

signal.signal(signal.SIGALRM, lambda *_: print("rings", file=sys.stderr))
with ended_by_signals() as find:
    print("ready", flush=True)
    signal.raise_signal(signal.Signals[sys.argv[1]])
    time.sleep(0.1)
    print(find(), file=sys.stderr)
"""


def start(code: str, *arguments: str, before: str = "") -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*before.split(), sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.slow
def test_a_command_that_does_not_listen_ends_and_leaves_no_half_file(tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as at_once:  # each waits for seconds
        for ended in [
            at_once.submit(end_a_deaf_command, tmp_path / number.name, number)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        ]:
            ended.result()


def end_a_deaf_command(folder: Path, number: int) -> None:
    folder.mkdir()
    process = start(DEAF, str(folder))
    assert len([*folder.iterdir()]) == 2
    time.sleep(0.3)  # then it sleeps
    told = time.monotonic()
    process.send_signal(number)
    time.sleep(0.2)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (128 + number, "", "")
    assert failures._PATIENCE <= time.monotonic() - told < 5
    assert [*folder.iterdir()] == []


def test_what_ignores_a_closed_terminal_still_does() -> None:
    process = start(HEEDS, "SIGHUP", before="nohup")
    assert process.communicate(timeout=20)[1] == "0\n"
    assert process.returncode == 0


def test_other_signals_are_none_of_its_business() -> None:
    process = start(HEEDS, "SIGALRM")
    assert process.communicate(timeout=20)[1] == "rings\n0\n"
    assert process.returncode == 0
