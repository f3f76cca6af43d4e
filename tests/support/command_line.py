"""The command line, called in process: its output, and the files it left."""

import sys
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pandas as pd
import pytest
from prefect import Flow

from flows.cli import app, startup
from flows.prices import fetch
from flows.runtime.context import open_run
from models.ensembles.model_files import model_version
from pipeline.tracking.registry import Registry

MONDAY, TUESDAY = pd.Timestamp("2018-12-10"), pd.Timestamp("2018-12-11")
HERE = ("--config", "nextday.toml", "--home", "w", "--now", "2018-12-20T22:00Z")


class Said(NamedTuple):
    """The exit code and output of a command."""

    code: int
    out: str
    err: str


class CommandLine:
    """`nextday` in a separate folder with a short nextday.toml.

    Flows and tasks run as the plain functions that they are: errors cross them, no server starts.
    """

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys
        monkeypatch.setattr(Flow, "__call__", lambda self, *a, **k: self.fn(*a, **k))
        monkeypatch.setattr(fetch.fetch_prices, "again", None)  # a retry waits for seconds
        for preparation in ("_set_environment", "_prepare_prefect", "start_quickly"):
            monkeypatch.setattr(app, preparation, lambda: None)
        monkeypatch.setattr(app, "_prepare_flow_and_server", lambda: (app._prepare_flow(), None))
        monkeypatch.setattr(startup, "gc", SimpleNamespace(freeze=lambda: None, enable=lambda: None))
        monkeypatch.chdir(folder)
        Path("nextday.toml").write_text("[prices]\nstart = 2018-11-01\n")

    def __call__(self, *arguments: str) -> Said:
        self._monkeypatch.setattr(sys, "argv", ["nextday", *arguments])
        self._capsys.readouterr()
        code = 0
        try:
            app.main()
        except SystemExit as end:
            code = int(end.code or 0)
        said = self._capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return Said(code, said.out, said.err)


def told(said: Said) -> list[str]:
    """Return the lines of an error, after checking that it states what, where and the fix."""
    lines = said.err[said.err.index("nextday: ") :].splitlines()
    assert any(line.startswith("  where: ") for line in lines), said.err
    assert any(line.startswith("  fix:   ") for line in lines), said.err
    return lines


def contents(folder: Path) -> dict[str, str]:
    """Return the digest of every file of a folder, lock files excepted."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


def seal_one(model: str = "0123456789abcdef", config_digest: str = "") -> None:
    """Make a workspace with one sealed forecast, of the first symbol of the universe."""
    run = open_run(Path("nextday.toml"), Path("w"), datetime(2018, 12, 10, 22, tzinfo=UTC))
    run.save_settings()
    row = pd.DataFrame({"symbol": run.universe.symbols[:1]}).assign(
        as_of=MONDAY, target_session=TUESDAY, horizon=1, model_version=model, issued_at=run.now, p_up=0.52,
        low=0.49, high=0.55, direction="up", baseline_p_up=0.53, last_close=2637.72, data_version=1,
        config_digest=config_digest or run.digest, role="champion", target="direction",
    )  # fmt: skip
    instants = {
        "as_of": "datetime64[us]",
        "target_session": "datetime64[us]",
        "issued_at": "datetime64[us, UTC]",
    }
    run.ledger.issue(
        row.astype(instants), universe=run.name, opens={}, newest_observed_at=run.now, historical=True
    )


def seal_with_model(universe: str = "sample") -> Path:
    """Make a workspace with one sealed forecast of a registered model, and return the model's folder."""
    draft = Path(f"w/models/{universe}/draft")
    draft.mkdir(parents=True)
    (draft / "model.json").write_text("no JSON at all")
    name = model_version(draft)
    folder = draft.rename(draft.with_name(name))
    registry = Registry(Path("w").resolve(), model_version)
    registry.add(universe, name, "run", 1, {"trained_through": "2018-11-30"})
    registry.promote(universe, name, datetime(2018, 12, 1, tzinfo=UTC))
    seal_one(name)
    return folder
