"""The command line, called in process: what it said, and what it left behind."""

import sys
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pytest
from prefect import Flow, Task

from flows import cli

HERE = ("--config", "nextday.toml", "--home", "w", "--now", "2018-12-20T22:00Z")


class Said(NamedTuple):
    """What a command ended with."""

    code: int
    out: str
    err: str


class CommandLine:
    """`nextday` in a folder of its own, with a short nextday.toml in it.

    Flows and tasks run as the plain functions that they are: errors cross them, no server starts.
    """

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys
        for kind in (Flow, Task):
            monkeypatch.setattr(kind, "__call__", lambda self, *a, **k: self.fn(*a, **k))
        for preparation in ("_set_environment", "_prepare_prefect"):
            monkeypatch.setattr(cli, preparation, lambda: None)
        monkeypatch.chdir(folder)
        Path("nextday.toml").write_text("[prices]\nstart = 2018-11-01\n")

    def __call__(self, *arguments: str) -> Said:
        self._monkeypatch.setattr(sys, "argv", ["nextday", *arguments])
        self._capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        said = self._capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return Said(code, said.out, said.err)


def told(said: Said) -> list[str]:
    """Return an error's lines after checking that it names thing, place and way out."""
    lines = said.err[said.err.index("nextday: ") :].splitlines()
    assert any(line.startswith("  where:   ") for line in lines), said.err
    assert any(line.startswith("  way out: ") for line in lines), said.err
    return lines


def contents(folder: Path) -> dict[str, str]:
    """Return the digest of every file of a folder; locks are no content."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}
