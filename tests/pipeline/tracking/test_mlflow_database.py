"""MLflow's database: made once, migrated whole, moved along, silent and offline."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.errors import NextdayError
from pipeline.tracking.mlflow_database import _newest_schema, artifact_root, open_client
from pipeline.tracking.runs import Tracking
from tests.conftest import PROJECT

pytestmark = pytest.mark.slow

EVENING = """
import socket, sys
from datetime import UTC, datetime
from pathlib import Path
import pandas as pd

def refuse(*asked):
    print("asked for", asked)  # raising alone would go unseen in a thread of MLflow's
    raise OSError("no network here")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from pipeline.schema import SCORES, empty
from pipeline.tracking.runs import Tracking

home, universe = Path(sys.argv[1]), sys.argv[2]
folder = home / "models" / universe / "a1"
folder.mkdir(parents=True, exist_ok=True)
(folder / "model.json").write_text("{}")
book = Tracking(home, digest=lambda folder: folder.name)
book.record_training(
    universe=universe, run_name="r", config={}, config_digest="c", model_dir=folder, model_version="a1",
    tags={"trained_through": "2018-12-31"}, scores=empty(SCORES), scored_model="gru",
    epochs=pd.DataFrame({"fit": ["score"], "member": [1], "epoch": [1], "loss": [0.7]}),
)
book.promote(universe, "a1", promoted_at=datetime(2018, 12, 31, 22, tzinfo=UTC))
"""


def start(home: Path, universe: str, cwd: Path) -> subprocess.Popen[str]:
    # Nothing else is inherited: a CI's or pytest's own variables would silence MLflow's telemetry by themselves.
    clean = {"PYTHONPATH": str(PROJECT), "HOME": str(cwd.parent)}
    return subprocess.Popen(
        [sys.executable, "-c", EVENING, str(home), universe],
        cwd=cwd,
        env={name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ} | clean,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def make_database_of_yesterday(home: Path) -> str:
    """Make a database one migration behind, with an experiment in it, by Alembic's own means."""
    import mlflow.store.tracking.dbmodels.initial_models as oldest
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    scripts = str(Path(oldest.__file__).parents[2] / "db_migrations")
    newest = ScriptDirectory(scripts).get_current_head()
    before = ScriptDirectory(scripts).get_revision(newest).down_revision
    engine = create_engine(f"sqlite:///{home}/mlflow.db", poolclass=NullPool)
    oldest.Base.metadata.create_all(engine)
    config = Config()
    config.set_main_option("script_location", scripts)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, before)
    with closing(sqlite3.connect(home / "mlflow.db")) as connection, connection:
        connection.execute("INSERT INTO experiments (name, lifecycle_stage) VALUES ('kept', 'active')")
    return str(before)


def schema(home: Path) -> str:
    with closing(sqlite3.connect(home / "mlflow.db")) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def test_two_processes_make_a_fresh_database_at_once_silently_offline_and_leave_nothing_elsewhere(
    tmp_path: Path,
) -> None:
    home, cwd = tmp_path / "home", tmp_path / "cwd"
    cwd.mkdir()
    both = [start(home, universe, cwd) for universe in ("one", "other")]
    said = [process.communicate(timeout=120) for process in both]
    assert said == [("", ""), ("", "")]
    assert [process.returncode for process in both] == [0, 0]
    assert list(cwd.iterdir()) == []
    client = open_client(home)
    experiments = client.search_experiments(filter_string="name LIKE 'nextday-%'")
    assert sorted(found.name for found in experiments) == ["nextday-one", "nextday-other"]
    assert [len(client.search_runs([found.experiment_id])) for found in experiments] == [1, 1]
    assert len(client.search_model_versions()) == 2
    assert {path.name for path in home.iterdir()} == {"locks", "mlflow", "mlflow.db", "models"}


def test_a_database_of_an_older_mlflow_is_migrated_with_what_it_holds(tmp_path: Path) -> None:
    before = make_database_of_yesterday(tmp_path)
    assert open_client(tmp_path).get_experiment_by_name("kept") is not None
    assert schema(tmp_path) != before


def test_a_migration_that_was_killed_is_done_again(tmp_path: Path) -> None:
    make_database_of_yesterday(tmp_path)
    half = (tmp_path / "mlflow.db").read_bytes()
    (tmp_path / ".mlflow.db").write_bytes(half[: len(half) // 2])
    (tmp_path / ".mlflow.db-journal").write_bytes(half[:512])
    assert open_client(tmp_path).get_experiment_by_name("kept") is not None
    assert list(tmp_path.glob(".mlflow.db*")) == []


def test_a_migration_that_fails_leaves_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def migrate_on_a_full_disk(url: str) -> None:
        raise OSError("No space left on device")

    before = make_database_of_yesterday(tmp_path)
    monkeypatch.setattr("mlflow.db.upgrade.callback", migrate_on_a_full_disk)
    with pytest.raises(OSError, match="No space"):
        open_client(tmp_path)
    assert list(tmp_path.glob(".mlflow.db*")) == []
    assert schema(tmp_path) == before


def test_a_database_of_a_newer_mlflow_is_left_as_it_is(tmp_path: Path) -> None:
    make_database_of_yesterday(tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'of_tomorrow'")
    whole = (tmp_path / "mlflow.db").read_bytes()
    with pytest.raises(NextdayError, match="of_tomorrow") as error:
        Tracking(tmp_path, digest=str).ui_command(5000)
    assert error.value.where == str(tmp_path / "mlflow.db")
    assert (tmp_path / "mlflow.db").read_bytes() == whole


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database" * 100)
    with pytest.raises(NextdayError, match="file is not a database") as error:
        Tracking(tmp_path, digest=str).ui_command(5000)
    assert error.value.where == str(tmp_path / "mlflow.db")


def test_a_copied_workspace_leaves_the_experiments_of_others_where_they_are(tmp_path: Path) -> None:
    home, other = tmp_path / "home", "file:///srv/home/mlflow"
    client = open_client(home)
    client.create_experiment("nextday-sample", artifact_location=artifact_root(home))
    client.create_experiment("mine", artifact_location=other)
    client.create_experiment("nextday-lookalike", artifact_location=f"{artifact_root(home)}2/x")
    copied = open_client(Path(shutil.copytree(home, tmp_path / "copy")))
    places = {e.name: e.artifact_location for e in copied.search_experiments() if e.name != "Default"}
    assert places == {
        "nextday-sample": artifact_root(tmp_path / "copy"),
        "mine": other,
        "nextday-lookalike": f"{artifact_root(home)}2/x",
    }


def test_another_projects_mlflow_is_neither_asked_nor_obeyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
        "MLFLOW_REGISTRY_URI": "http://127.0.0.1:9",
        "MLFLOW_EXPERIMENT_ID": "77",
        "MLFLOW_RUN_ID": "abc",
        "MLFLOW_ENABLE_WORKSPACES": "true",
        "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "Pool",
        "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "many",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "long",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true",
    }.items():
        monkeypatch.setenv(name, value)
    client = open_client(tmp_path)
    experiment = client.create_experiment("nextday-sample", artifact_location=artifact_root(tmp_path))
    run = client.create_run(experiment).info.run_id
    client.create_registered_model("nextday-sample")
    client.create_model_version("nextday-sample", f"runs:/{run}/model", run)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as known:
        assert known.execute("SELECT name, version FROM model_versions").fetchall() == [("nextday-sample", 1)]
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert "MLFLOW_REGISTRY_URI" not in os.environ


@pytest.mark.parametrize("name", ["a% b", "a#b", "{{ a }}:b;c", "ä'\"$b"])
def test_a_database_lies_where_its_workspace_is(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    home.mkdir()
    client = open_client(home)
    experiment = client.create_experiment("nextday-sample", artifact_location=artifact_root(home))
    client.log_text(client.create_run(experiment).info.run_id, "x", "x.txt")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert [path.read_text() for path in home.rglob("x.txt")] == ["x"]


def test_the_newest_schema_is_the_one_that_alembic_names(tmp_path: Path) -> None:
    import mlflow
    from alembic.script import ScriptDirectory

    migrations = Path(mlflow.__file__).parent / "store" / "db_migrations"
    assert _newest_schema(migrations) == ScriptDirectory(str(migrations)).get_current_head()
    (tmp_path / "versions").mkdir()
    for name, before in {"a": None, "b": "a", "c": "a", "d": ("b", "c")}.items():
        script = f"revision = {name!r}\ndown_revision = {before!r}\n"
        (tmp_path / "versions" / f"{name}.py").write_text(script)
    assert _newest_schema(tmp_path) == "d"


def test_the_database_is_prepared_ahead_and_a_failure_is_told_by_the_first_use(tmp_path: Path) -> None:
    Tracking(tmp_path, digest=str).prepare()
    assert (tmp_path / "mlflow.db").stat().st_size > 100_000
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "mlflow.db").write_text("no database at all " * 1000)
    Tracking(blocked, digest=str).prepare()
    with pytest.raises(NextdayError, match="MLflow's pages cannot be shown"):
        Tracking(blocked, digest=str).ui_command(5000)
