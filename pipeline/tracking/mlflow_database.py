"""MLflow's database in the workspace: created and migrated atomically, and kept valid when the workspace moves."""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from pipeline.storage.files import hold_lock, removed_at_end

__all__ = [
    "artifact_root",
    "database",
    "import_mlflow",
    "locked",
    "open_client",
    "run_folder",
    "set_environment",
]

_ENVIRONMENT: Final = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    # MLflow also logs a traceback of every error that it raises.
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    # A pooled connection would go on writing to a file that a migration has replaced.
    "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",
}

_CREDENTIALS: Final = re.compile(
    r"MLFLOW_TRACKING_(USERNAME|PASSWORD|TOKEN|SERVER_CERT_PATH|CLIENT_CERT_PATH)"
)
"""What of the user's variables stays: who asks a server, and which certificates count. It names no server."""

_LOCK_SECONDS: Final = 300.0

_LOCATIONS: Final = (("experiments", "artifact_location"), ("runs", "artifact_uri"))
"""Tables and columns in which MLflow stores absolute locations; a registered model names its run instead."""


def database(home: Path) -> Path:
    """Return the file of the database."""
    return home / "mlflow.db"


def artifact_root(home: Path) -> str:
    """Return the location of the runs' files, as a URI."""
    return (home / "mlflow").as_uri()


def run_folder(home: Path, run_id: str) -> Path:
    """Return the folder of a run's files."""
    return home / "mlflow" / run_id


def import_mlflow() -> None:
    """Import MLflow and its database store, which takes seconds."""
    set_environment()
    import_module("mlflow.store.tracking.sqlalchemy_store")
    import_module("mlflow.store.model_registry.sqlalchemy_store")


def set_environment() -> None:
    """Set what MLflow reads of the process's environment, before it is imported.

    Every other MLFLOW_ variable is removed: it is another project's, and could register models on its server, or switch
    off what nextday's database needs.
    """
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        if not _CREDENTIALS.fullmatch(name):
            del os.environ[name]
    os.environ |= _ENVIRONMENT


def open_client(home: Path) -> Any:
    """Import MLflow, get its database ready, and return its MlflowClient.

    Args:
        home: The workspace, an absolute path.

    Raises:
        WorkspaceBusyError: another process held the database for five minutes.
        Exception: any error of MLflow, Alembic or SQLAlchemy, if the database cannot be created or migrated.
    """
    url = _url(database(home))
    import_mlflow()
    import mlflow

    migrations = Path(mlflow.__file__).parent / "store" / "db_migrations"
    with locked(home):
        if _schema(database(home)) != _newest_schema(migrations):
            _migrate(home)
        _update_locations(home)
    return mlflow.MlflowClient(url, registry_uri=url)


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the lock of the workspace's tracking.

    Raises:
        WorkspaceBusyError: another process held it for five minutes.
    """
    # A universe's name cannot begin with a dot, so this cannot be a universe's lock.
    with hold_lock(home / "locks" / ".tracking.lock", _LOCK_SECONDS):
        yield


def _url(path: Path) -> str:
    return f"sqlite:///{path}"


def _schema(path: Path) -> str | None:
    if not path.exists():
        return None
    with closing(sqlite3.connect(path)) as connection:
        known = "SELECT name FROM sqlite_master WHERE name = 'alembic_version'"
        if connection.execute(known).fetchone() is None:
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(row[0]) if row else None


def _newest_schema(migrations: Path) -> str | None:
    """Return the revision that no other one follows; read as text, for Alembic would run every script."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in (migrations / "versions").glob("*.py"))
    known, followed = (
        {*re.findall(rf"""^{name} = ["'](\w+)["']$""", text, flags=re.MULTILINE)}
        for name in ("revision", "down_revision")
    )
    newest = known - followed
    if len(newest) == 1:
        return str(*newest)
    from alembic.script import ScriptDirectory  # branches, or scripts in another form

    return ScriptDirectory(str(migrations)).get_current_head()


def _migrate(home: Path) -> None:
    """Migrate a copy and move it into place: MLflow's own migration leaves a broken database when it is killed."""
    from mlflow.db import upgrade

    path = database(home)
    half = home / ".mlflow.db"
    journal = half.with_name(f"{half.name}-journal")
    _remove(half, journal)
    with removed_at_end(half), removed_at_end(journal):
        try:
            if path.exists():
                with closing(sqlite3.connect(path)) as old, closing(sqlite3.connect(half)) as new:
                    old.backup(new)
            upgrade.callback(_url(half))
            half.replace(path)
        finally:
            _remove(half, journal)


def _remove(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _update_locations(home: Path) -> None:
    """Rewrite the absolute locations of a moved or copied workspace, else new files go to the old one."""
    root = artifact_root(home)
    with closing(sqlite3.connect(database(home))) as connection, connection:
        left = connection.execute(
            "SELECT DISTINCT artifact_location FROM experiments WHERE name LIKE 'nextday-%'"
            " AND artifact_location LIKE 'file:%/mlflow' AND artifact_location <> ?",
            [root],
        ).fetchall()
        for (old,) in left:
            for table, column in _LOCATIONS:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?)"
                    f" WHERE substr({column} || '/', 1, ?) = ? || '/'",
                    [root, len(old) + 1, len(old) + 1, old],
                )
