"""Tracked runs and the registry of models: MLflow on sqlite in the workspace or on a server, behind a small interface.

Plain files decide which model serves (`pipeline.tracking.registry`), because importing MLflow takes seconds in every
nightly run and its database holds absolute paths. MLflow's registry and its alias `champion` mirror them for people,
and `mirror` reports where the two disagree. On a server the alias decides (`pipeline.tracking.shared_models`).
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pandas as pd

from pipeline.errors import NextdayError
from pipeline.storage.files import share_content
from pipeline.tracking.mlflow_aliases import CHAMPION, find_number, move_alias, name_challengers, read_aliases
from pipeline.tracking.mlflow_database import artifact_root, database, locked, open_client, run_folder
from pipeline.tracking.mlflow_metrics import (
    Measured,
    allowed_name,
    list_params,
    measure_epochs,
    measure_scores,
)
from pipeline.tracking.mlflow_server import MlflowServer, explain_server, find_experiment, open_server
from pipeline.tracking.registry import RegisteredModel, Registry, registered_name
from pipeline.tracking.shared_models import EVALUATION, SharedModels

__all__ = ["CHAMPION", "RegisteredModel", "TrackedRun", "Tracking"]

_MAX_METRICS, _MAX_PARAMS = 1000, 100
"""MLflow's limits per batch."""

_IDENTITY: Final = ("record", "model_version", "data_version", "config_digest", "trial_digest", "ledger_head")
"""The tags that identify a run of a given name; the other tags hold when and where it ran."""


@dataclass(frozen=True)
class TrackedRun:
    """A recorded training.

    Attributes:
        run_id: The id of MLflow's run.
        version: The model's number in MLflow's registry, from 1.
    """

    run_id: str
    version: int


@dataclass(frozen=True)
class Tracking:
    """The tracked runs and models of a workspace.

    Every method raises InputError if the universe's name is invalid. Callers that record must hold the universe's lock.

    Attributes:
        home: The workspace: models/<universe>/<model_version>/ and, without a server, mlflow.db and mlflow/ (the runs'
            files) are in it.
        digest: Returns the model_version of the files in a folder; raises if they are not a model.
        server: The MLflow server that is used instead of mlflow.db and mlflow/; None: those are used.
    """

    home: Path
    digest: Callable[[Path], str]
    server: MlflowServer | None = None

    def prepare(self) -> None:
        """Import MLflow and get its database ready, which takes seconds the first time.

        What fails here fails again, with its error, when the database is first used.
        """
        with suppress(Exception):
            _ = self._client

    def record_training(
        self,
        *,
        universe: str,
        run_name: str,
        config: Mapping[str, Any],
        config_digest: str,
        model_dir: Path,
        model_version: str,
        tags: Mapping[str, str],
        epochs: pd.DataFrame,
        scores: pd.DataFrame,
        scored_model: str,
        artifacts: Sequence[Path] = (),
        evaluation: Mapping[str, str] = MappingProxyType({}),
    ) -> TrackedRun:
        """Record a training and register its model as `nextday-<universe>`.

        A model that is already registered keeps its first registration, and a training that is already recorded (the
        same model, settings and prices) keeps its run; after a kill, recording again only completes it.

        Args:
            universe: The universe's name.
            run_name: The name that MLflow shows.
            config: The resolved settings; each leaf becomes a parameter, cut at 500 characters.
            config_digest: Their digest.
            model_dir: The model's files: models/<universe>/<model_version>/ of the workspace.
            model_version: The digest of those files.
            tags: Tags of the run; `trained_through` (a date) must be among them.
            epochs: One row per epoch: fit, member, epoch, and one column per metric.
            scores: schema.SCORES.
            scored_model: The model in the scores; the others there are baselines.
            artifacts: Files to store with the run.
            evaluation: The sha256 of each file of the model's evaluation, kept in the list of models.

        Raises:
            NextdayError: the model's files are not those of `model_version` or are in another folder, or MLflow failed.
        """
        directory = self._registry.verify(universe, model_version)
        if model_dir.resolve() != directory:
            raise NextdayError(f"A model to register must be in {directory}", where=str(model_dir))
        about = {**tags, "config_digest": config_digest, "model_version": model_version}
        with self._recording(universe, run_name, {**about, "record": "training"}) as (run, is_new):
            if is_new:
                self._log_params(run, list(list_params(config)))
                self._log_metrics(run, [*measure_epochs(epochs), *measure_scores(scores, scored_model)])
                self._log_artifacts(run.info.run_id, artifacts)
                self._log_artifacts(run.info.run_id, sorted(directory.iterdir()), "model")
            number = self._register(universe, run.info.run_id, about, evaluation)
            self._registry.add(universe, model_version, run.info.run_id, number, about, evaluation)
        return TrackedRun(run.info.run_id, number)

    def record_forecast(
        self,
        *,
        universe: str,
        run_name: str,
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
        artifacts: Sequence[Path] = (),
    ) -> str:
        """Record a nightly run without a training, unless it is already recorded, and return its run_id.

        Raises:
            NextdayError: MLflow failed.
        """
        with self._recording(universe, run_name, {**tags, "record": "forecast"}) as (run, is_new):
            if is_new:
                self._log_metrics(run, [(allowed_name(name), value, 0) for name, value in metrics.items()])
                self._log_artifacts(run.info.run_id, artifacts)
        return str(run.info.run_id)

    def record_backtest(
        self,
        *,
        universe: str,
        run_name: str,
        config: Mapping[str, Any],
        tags: Mapping[str, str],
        epochs: pd.DataFrame,
        scores: pd.DataFrame,
        scored_model: str,
        trading: Sequence[Measured],
        artifacts: Sequence[Path],
    ) -> str:
        """Record a backtest, which registers no model, unless it is already recorded, and return its run_id.

        Raises:
            NextdayError: MLflow failed.
        """
        with self._recording(universe, run_name, {**tags, "record": "backtest"}) as (run, is_new):
            if is_new:
                self._log_params(run, list(list_params(config)))
                self._log_metrics(
                    run, [*measure_epochs(epochs), *measure_scores(scores, scored_model), *trading]
                )
                self._log_artifacts(run.info.run_id, artifacts)
        return str(run.info.run_id)

    def attach(
        self, run_id: str, artifacts: Sequence[Path] = (), tags: Mapping[str, str] | None = None
    ) -> None:
        """Add files and tags to a recorded run.

        Raises:
            NextdayError: there is no such run, or MLflow failed.
        """
        with self._explain_errors(f"Nothing can be added to the tracked run {run_id}"):
            self._log_artifacts(run_id, artifacts)
            for name, value in (tags or {}).items():
                self._client.set_tag(run_id, name, value)

    def promote(self, universe: str, model_version: str, *, promoted_at: datetime) -> None:
        """Make a registered model the champion; promoting the champion again only fixes the alias in the workspace.

        Args:
            universe: The universe's name.
            model_version: The model's version.
            promoted_at: The run's clock (tz-aware).

        Raises:
            NextdayError: the model is not registered or its files are damaged, or MLflow failed.
        """
        former = self._registry.promote(universe, model_version, promoted_at)
        if self.server:  # it was told first: see SharedModels.announce
            return
        with self._explain_errors(f"The model {model_version} serves, but MLflow's alias could not follow"):
            move_alias(self._client, registered_name(universe), model_version, former, promoted_at)

    def show_challengers(self, universe: str, challengers: Mapping[str, str]) -> None:
        """Let MLflow's aliases name the challengers: model_version by name, as the alias challenger-<name>.

        Raises:
            NextdayError: MLflow failed.
        """
        with self._explain_errors("MLflow's aliases of the challengers could not follow"):
            name_challengers(self._client, registered_name(universe), challengers)

    def champion(self, universe: str) -> RegisteredModel | None:
        """Return the serving model, its files checked, or None; MLflow is not imported. See Registry.champion."""
        return self._registry.champion(universe)

    def version(self, universe: str, model_version: str) -> RegisteredModel:
        """Return one registered model, its files checked; MLflow is not imported. See Registry.version."""
        return self._registry.version(universe, model_version)

    def versions(self, universe: str) -> list[RegisteredModel]:
        """Return every registered model, newest first; MLflow is not imported. See Registry.versions."""
        return self._registry.versions(universe)

    def mirror(self, universe: str) -> list[str]:
        """Return where MLflow's registry differs from the serving model, one sentence each; empty if they agree.

        On a server it decides, and the next run follows.

        Raises:
            NextdayError: a file is damaged, or MLflow failed.
        """
        if self.server:
            return []
        champion = self._registry.serving(universe)
        serving = None if champion is None else champion.model_version
        if serving is None and not database(self._home).exists():
            return []
        name = registered_name(universe)
        with self._explain_errors("MLflow's registry cannot be read"):
            aliases = read_aliases(self._client, name)
        shown = aliases.get(CHAMPION)
        if shown == serving:
            return []
        return [
            f"nextday serves {serving or 'no model'}, but MLflow's alias {CHAMPION!r} of {name} names "
            f"{shown or 'none'}: `nextday promote VERSION` brings the alias in line"
        ]

    def runs_page(self, universe: str) -> str:
        """Return the address of the universe's runs below that of MLflow's pages; raises NextdayError."""
        with self._explain_errors("MLflow's pages cannot be shown"):
            return f"#/experiments/{self._experiment(registered_name(universe))}/runs?workflowType=machine_learning"

    def ui_command(self, port: int) -> list[str]:
        """Return the command line that shows MLflow's pages on 127.0.0.1, ready for os.execv.

        It first creates or migrates the database, and sets the environment that the command inherits.

        Raises:
            NextdayError: the database cannot be created or migrated.
        """
        with self._explain_errors("MLflow's pages cannot be shown"):
            url = self._client.tracking_uri
        place = ["--backend-store-uri", url, "--default-artifact-root", artifact_root(self._home)]
        serve = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        return [sys.executable, "-m", "mlflow", "ui", *place, *serve]

    @property
    def _home(self) -> Path:
        return self.home.resolve()

    @property
    def _registry(self) -> Registry:
        return Registry(self.home, self.digest, fetch=self.shared.fetch if self.shared else None)

    @cached_property
    def shared(self) -> SharedModels | None:
        """The models that the workspace shares with others through the server; None without one."""
        return SharedModels(self._home, self.server, self.digest) if self.server else None

    @cached_property
    def _client(self) -> Any:
        return open_server(self.server) if self.server else open_client(self._home)

    @contextmanager
    def _explain_errors(self, what: str) -> Iterator[None]:
        """Turn any error of MLflow, Alembic, SQLAlchemy or the disk into a NextdayError."""
        try:
            with explain_server(self.server, what) if self.server else nullcontext():
                yield
        except NextdayError:
            raise
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise NextdayError(
                f"{what}: {reason[0]}",
                where=str(database(self._home)),
                fix="forecasts and ledger do not need it: free space if the disk is full; if the file is damaged, "
                "move it away, and the next run creates a new one",
            ) from error

    @contextmanager
    def _recording(self, universe: str, run_name: str, tags: Mapping[str, str]) -> Iterator[tuple[Any, bool]]:
        """Yield a run and whether it has to be written: not if a finished run has the same identity.

        A run whose writer failed or was killed is resumed: logging the same values again has no effect. A new or
        resumed run ends as FINISHED or FAILED.
        """
        name = registered_name(universe)
        with self._explain_errors(f"The run {run_name!r} cannot be tracked"):
            experiment = self._experiment(name)
            recorded = self._find_recorded(experiment, run_name, tags)
            run = recorded.get("FINISHED") or next(iter(recorded.values()), None)
            self._end_killed(experiment, run)
            if run and run.info.status == "FINISHED":
                yield run, False
                return
            run = run or self._client.create_run(experiment, run_name=run_name, tags=dict(tags))
            try:
                yield run, True
            except BaseException:
                self._client.set_terminated(run.info.run_id, "FAILED")
                raise
            self._client.set_terminated(run.info.run_id, "FINISHED")

    def _find_recorded(self, experiment: str, run_name: str, tags: Mapping[str, str]) -> dict[str, Any]:
        """Return the runs with the same name and identity, one per status."""
        same = [f"tags.{name} = '{tags[name]}'" for name in _IDENTITY if name in tags]
        found = self._client.search_runs(
            [experiment], " and ".join([f"attributes.run_name = '{run_name}'", *same])
        )
        return {run.info.status: run for run in found}

    def _end_killed(self, experiment: str, but: Any | None) -> None:
        """Mark unfinished runs as killed: a universe has one writer at a time, so their writers are dead.

        Those on a server may be of another machine.
        """
        if self.server:
            return
        for run in self._client.search_runs([experiment], "attributes.status = 'RUNNING'"):
            if "record" in run.data.tags and run.info.run_id != (but and but.info.run_id):
                self._client.set_terminated(run.info.run_id, "KILLED")

    def _experiment(self, name: str) -> str:
        client = self._client
        if self.server:
            return find_experiment(client, name)
        with locked(self._home):
            known = client.get_experiment_by_name(name)
            if known:
                return str(known.experiment_id)
            return str(client.create_experiment(name, artifact_location=artifact_root(self._home)))

    def _log_params(self, run: Any, params: Sequence[tuple[str, str]]) -> None:
        from mlflow.entities import Param

        for start in range(0, len(params), _MAX_PARAMS):
            some = [Param(*pair) for pair in params[start : start + _MAX_PARAMS]]
            self._client.log_batch(run.info.run_id, params=some)

    def _log_metrics(self, run: Any, measured: Sequence[Measured]) -> None:
        from mlflow.entities import Metric

        at = run.info.start_time
        metrics = [Metric(name, float(value), at, step) for name, value, step in measured if pd.notna(value)]
        for start in range(0, len(metrics), _MAX_METRICS):
            self._client.log_batch(run.info.run_id, metrics=metrics[start : start + _MAX_METRICS])

    def _log_artifacts(self, run_id: str, artifacts: Sequence[Path], folder: str = "") -> None:
        for path in artifacts:
            self._client.log_artifact(
                run_id, str(path), folder or None
            )  # log_artifacts fails on a shared file
            if self.server is None:
                share_content(path, run_folder(self._home, run_id) / "artifacts" / folder / path.name)

    def _register(
        self, universe: str, run_id: str, tags: Mapping[str, str], evaluation: Mapping[str, str]
    ) -> int:
        name = registered_name(universe)
        if self.server:  # other machines know of the model what its tags say
            tags = {**tags, EVALUATION: json.dumps(dict(evaluation))}
        with locked(self._home):
            if (number := find_number(self._client, name, tags["model_version"])) is not None:
                return number
            if not self._client.search_registered_models(f"name = '{name}'"):
                self._client.create_registered_model(name)
            source, about = f"runs:/{run_id}/model", dict(tags)
            made = self._client.create_model_version(name, source, run_id, about, await_creation_for=0)
            return int(made.version)
