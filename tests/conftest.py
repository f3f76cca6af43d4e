"""What several test files share: the real datasets, made-up prices, and a clock."""

import gc
import importlib.util
import itertools
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

# TensorFlow shows its own libcurl to the whole process: who loads curl_cffi after it gets that one, and fails.
import curl_cffi.requests  # noqa: F401
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from filelock import FileLock

from pipeline.features.panel import Panel, build_panel
from pipeline.market.calendar import Calendar, calendar
from pipeline.prices.bar_block import COLUMNS, build_block
from pipeline.prices.ingest.quality import check
from pipeline.sources import Fetched
from pipeline.tracking import mlflow_database
from tests.support.object_store import ObjectStore, object_store
from tests.support.own_process import Nursery, is_marked

if TYPE_CHECKING:
    from tests.support.postgres_server import PostgresServer

PROJECT = Path(__file__).parents[1]
"""The checkout."""

NOW = datetime(2019, 6, 1, 12, tzinfo=UTC)
"""A wall clock after the sample's end."""

_SCHEMAS = itertools.count(1)

os.environ["DO_NOT_TRACK"] = "1"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
for _name in ("NEXTDAY_CONFIG", "NEXTDAY_HOME"):
    os.environ.pop(_name, None)  # whoever runs the tests may have evenings of his own


def pytest_configure(config: pytest.Config) -> None:
    """Compile networks once for all tests and their child processes, and as fast as these tests are best served.

    Without its newer emitters XLA takes two thirds of the time for each of a few hundred little networks, and without
    optimization a third less again; but the proofs train for so long that they would then take three times as long.
    Benches measure what a user has: XLA as it comes.
    """
    if config.option.markexpr == "bench":
        return
    level = "--xla_backend_optimization_level=0" if "not proof" in config.option.markexpr else ""
    os.environ["XLA_FLAGS"] = f"--xla_cpu_use_fusion_emitters=false {level}"
    # XLA keys each entry by the graph and the processor, and not by its own settings.
    compiled = PROJECT / ".pytest_cache" / f"xla-{'tests' if level else 'proofs'}-{_tensorflow_version()}"
    compiled.mkdir(parents=True, exist_ok=True)
    os.environ["TF_XLA_FLAGS"] = f"--tf_xla_persistent_cache_directory={compiled}"


def pytest_collectstart() -> None:
    """Collect no garbage while test files are imported: what is imported stays."""
    gc.disable()


def _tensorflow_version() -> str:
    """Return the version of the build that is installed; importing TensorFlow to ask it takes seconds."""
    with suppress(PackageNotFoundError):
        return version("tensorflow-cpu")
    return version("tensorflow")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that are marked `slow` before the others: two processes then end at about the same time."""

    def may_wait(item: pytest.Item) -> bool:
        module = item.getparent(pytest.Module)
        is_slow = module is not None and module.get_closest_marker("slow") is not None
        return not is_slow and item.get_closest_marker("proof") is None  # proofs have an order of their own

    items.sort(key=may_wait)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Take what is imported by now out of the garbage collector's rounds, which it only makes longer; make them rare.

    What is imported is all that the processes have which run the files that are marked `own_process`.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)  # at Python's own pace they take a tenth of an evening's time
    gc.enable()
    if any(map(is_marked, session.items)) and not (
        session.config.option.collectonly or session.config.option.usepdb
    ):
        session.config.pluginmanager.register(Nursery(session))


def small_settings(start: str = "2015-01-02", *, test_sessions: int = 60) -> str:
    """Return a nextday.toml of real evenings that are quick, for what is the same whatever the kind of model."""
    return _settings(start, test_sessions, 'kind = "logistic"', "")


def network_settings(
    start: str = "2015-01-02", *, members: int = 1, epochs: int = 1, test_sessions: int = 60
) -> str:
    """Return a nextday.toml of evenings with a little network, fitted for a moment."""
    return _settings(start, test_sessions, f"units = 4\nmembers = {members}", f"epochs = {epochs}")


def _settings(start: str, test_sessions: int, model: str, training: str) -> str:
    return f"""
[prices]
start = {start}
[model]
lookback = 5
{model}
[training]
{training}
stop_sessions = 60
calibrate_sessions = 60
[evaluation]
test_sessions = {test_sessions}
"""


@pytest.fixture
def own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder for modules of the user's own, which are forgotten afterwards."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def skip_unless(is_there: bool, lacking: str, *, in_ci: bool = True) -> None:
    """Skip a test, saying why, where this machine lacks something that CI must have, unless `in_ci` is false."""
    if not is_there:
        assert not in_ci or os.environ.get("CI") != "true", f"CI must not lack this: {lacking}"
        pytest.skip(f"NOT TESTED HERE: {lacking}")


@pytest.fixture(scope="session")
def datasets() -> Path:
    """Return the folder of real prices."""
    folder = Path(os.environ.get("NEXTDAY_DATASETS", PROJECT.parent / "shared" / "datasets"))
    skip_unless(folder.is_dir(), f"the real datasets, in {folder}; NEXTDAY_DATASETS names their folder")
    return folder


@pytest.fixture(scope="session")
def object_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """Keep an S3 server on loopback running."""
    skip_unless(importlib.util.find_spec("moto") is not None, "an S3 server: moto[s3], of the extra `dev`")
    with object_store(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(object_server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """Return that server, with the variables that a client needs."""
    for name, value in object_server.environment.items():
        monkeypatch.setenv(name, value)
    return object_server


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator["PostgresServer"]:
    """Keep a PostgreSQL server on loopback running."""
    from tests.support.postgres_server import PostgresServer

    server = PostgresServer(tmp_path_factory.mktemp("postgres"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def address(postgres: "PostgresServer") -> str:
    """Return the address of a ledger that nothing was written to yet."""
    return postgres.address(f"desk{next(_SCHEMAS)}")


@pytest.fixture(scope="session")
def xnys() -> Calendar:
    """Return New York's calendar from 1999 to 2020."""
    return calendar("XNYS", date(1999, 1, 1), NOW)


@pytest.fixture(scope="session", autouse=True)
def migrated_tracking() -> Iterator[None]:
    """Let new workspaces begin with a copy of an empty MLflow database: its migrations take seconds each time."""
    ready = PROJECT / ".pytest_cache" / f"mlflow-{version('mlflow')}"
    migrate = mlflow_database._migrate

    def copy_or_migrate(home: Path) -> None:
        new = mlflow_database.database(home)
        if new.exists():
            migrate(home)
            return
        with FileLock(f"{ready}.lock"):
            if not ready.exists():
                part = ready.with_name(f"{ready.name}.part")
                part.mkdir(exist_ok=True)
                migrate(part)
                part.rename(ready)
        shutil.copyfile(mlflow_database.database(ready), new)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlflow_database, "_migrate", copy_or_migrate)
        yield


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run flows against a temporary Prefect server of the tests' own; commands started by tests do not see it."""
    from prefect.context import refresh_global_settings_context
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_HOME,
        temporary_settings,
    )

    from flows.runtime.temporary_server import TemporaryServer
    from tests.support.prefect_place import prefect_home

    home = prefect_home(tmp_path_factory.mktemp("server") / "prefect")
    server = TemporaryServer(os.environ | {"PREFECT_HOME": str(home)})
    with pytest.MonkeyPatch.context() as patch:  # for threads, which read Prefect's global settings
        patch.setenv("PREFECT_API_URL", server.url)
        refresh_global_settings_context()
    settings = {PREFECT_API_URL: server.url, PREFECT_HOME: home, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with temporary_settings(settings):
        server.wait()
        yield  # it ends with the process, after Prefect has sent its last log lines


def vendor_bars(sessions: pd.DatetimeIndex, close: "np.ndarray", **columns: object) -> pd.DataFrame:
    """Return plain vendor bars around the given closes."""
    close = np.asarray(close, float)
    bars = pd.DataFrame({"session": sessions.astype("datetime64[us]"), "close": close})
    bars = bars.assign(open=close, high=close * 1.01, low=close * 0.99, volume=1e6, dividend=0.0, split=1.0)
    bars = bars.assign(**{"adj_close": np.nan, **columns})
    return bars[["session", "open", "high", "low", "close", "volume", "dividend", "split", "adj_close"]]


def random_bars(sessions: pd.DatetimeIndex, seed: int) -> pd.DataFrame:
    """Return a random walk with a range and a volume."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, len(sessions))))
    spread = 1 + np.abs(rng.normal(0, 0.01, (2, len(sessions)))) + 1e-4
    volume = rng.integers(1e5, 1e6, len(sessions)).astype(float)
    return vendor_bars(sessions, close, high=close * spread[0], low=close / spread[1], volume=volume)


def prices_of(bars: dict[str, pd.DataFrame], days: Calendar, now: datetime = NOW) -> pd.DataFrame:
    """Return checked price rows of vendor bars by symbol."""
    answers = [Fetched(symbol, "ok", now, bars=rows) for symbol, rows in bars.items()]
    return check(answers, days, pd.Timestamp("2100-01-01"), source="test", historical=True).prices


def laid_out(prices: pd.DataFrame, sessions: pd.DatetimeIndex, symbols: list[str]) -> Panel:
    """Return price rows laid onto the calendar and adjusted."""
    rows = prices[["session", *COLUMNS]].assign(
        seq=1, instrument_id=prices["instrument_id"].astype("category")
    )
    batch = pa.RecordBatch.from_pandas(rows, preserve_index=False)
    return build_panel(build_block([batch], symbols, sessions, instruments={}))
