"""Tracked runs and the registry of models: MLflow on sqlite in the workspace, behind a small interface.

Plain files say which model serves (`pipeline.tracking.registry`), because importing MLflow costs seconds every night
and its database holds absolute paths; MLflow's registry and its alias `champion` mirror them for people, and `mirror`
tells where the two disagree.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pandas as pd

from pipeline.errors import NextdayError
from pipeline.tracking.mlflow_database import artifact_root, database, locked, open_client
from pipeline.tracking.mlflow_metrics import (
    Measured,
    allowed_name,
    list_params,
    measure_epochs,
    measure_scores,
)
from pipeline.tracking.registry import RegisteredModel, Registry, check_universe

__all__ = ["CHAMPION", "RegisteredModel", "TrackedRun", "Tracking"]

CHAMPION: Final = "champion"
"""The alias of the serving model in MLflow's registry."""

_MOST_METRICS, _MOST_PARAMS = 1000, 100
"""What MLflow takes in one batch."""

_IDENTITY: Final = ("record", "model_version", "data_version", "config_digest", "trial_digest", "ledger_head")
"""The tags by which two runs of one name are the same; others tell when and where it ran."""


@dataclass(frozen=True)
class TrackedRun:
    """A training that was written down.

    Attributes:
        run_id: MLflow's run.
        version: The model's number in MLflow's registry, from 1.
    """

    run_id: str
    version: int


@dataclass(frozen=True)
class Tracking:
    """The tracked runs and models of a workspace.

    Every method raises InputError where the universe has no proper name. Whoever records holds the universe's lock.

    Attributes:
        home: The workspace: mlflow.db, mlflow/ (the runs' files) and models/<universe>/<model_version>/ lie in it.
        digest: Returns the model_version of the files in a folder, and raises if they are no model.
    """

    home: Path
    digest: Callable[[Path], str]

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
        artifacts: Sequence[Path] = (),
    ) -> TrackedRun:
        """Write down a training and register its model as `nextday-<universe>`.

        A model that is registered already keeps its first registration, and a training that is written down already
        (the same model, settings and prices) its run: one that was killed after it is only completed.

        Args:
            universe: The universe's name.
            run_name: What people see.
            config: The resolved settings; each leaf becomes a parameter, cut at 500 characters.
            config_digest: Their digest.
            model_dir: The model's files: models/<universe>/<model_version>/ of the workspace.
            model_version: The digest of those files.
            tags: What to find the run by; `trained_through` (a date) must be among them.
            epochs: One row an epoch: fit, member, epoch, and a column a metric.
            scores: schema.SCORES.
            artifacts: Files to keep with the run.

        Raises:
            NextdayError: the model's files are not those of `model_version` or lie elsewhere, or MLflow failed.
        """
        directory = self._registry.verify(universe, model_version)
        if model_dir.resolve() != directory:
            raise NextdayError(f"A model to register must lie in {directory}", where=str(model_dir))
        about = {**tags, "config_digest": config_digest, "model_version": model_version}
        with self._recording(universe, run_name, {**about, "record": "training"}) as (run, is_new):
            if is_new:
                self._log_params(run, list(list_params(config)))
                self._log_metrics(run, [*measure_epochs(epochs), *measure_scores(scores)])
                self._log_artifacts(run.info.run_id, artifacts)
                self._client.log_artifacts(run.info.run_id, str(directory), "model")
            number = self._register(universe, run.info.run_id, about)
            self._registry.add(universe, model_version, run.info.run_id, number, about)
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
        """Write down an evening without a training, unless it is written down already, and return its run_id.

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
        trading: Sequence[Measured],
        artifacts: Sequence[Path],
    ) -> str:
        """Write down a backtest, which registers no model, unless it is written down already; return its run_id.

        Raises:
            NextdayError: MLflow failed.
        """
        with self._recording(universe, run_name, {**tags, "record": "backtest"}) as (run, is_new):
            if is_new:
                self._log_params(run, list(list_params(config)))
                self._log_metrics(run, [*measure_epochs(epochs), *measure_scores(scores), *trading])
                self._log_artifacts(run.info.run_id, artifacts)
        return str(run.info.run_id)

    def attach(
        self, run_id: str, artifacts: Sequence[Path] = (), tags: Mapping[str, str] | None = None
    ) -> None:
        """Add files and tags to a run that was written down before.

        Raises:
            NextdayError: there is no such run, or MLflow failed.
        """
        with self._plainly(f"Nothing can be added to the tracked run {run_id}"):
            self._log_artifacts(run_id, artifacts)
            for name, value in (tags or {}).items():
                self._client.set_tag(run_id, name, value)

    def promote(self, universe: str, model_version: str, *, promoted_at: datetime) -> None:
        """Make a registered model the champion; promoting the champion again only fixes MLflow's alias.

        Args:
            universe: The universe's name.
            model_version: Which model.
            promoted_at: The run's clock (tz-aware).

        Raises:
            NextdayError: the model is not registered or its files are damaged, or MLflow failed.
        """
        former = self._registry.promote(universe, model_version, promoted_at)
        with self._plainly(f"The model {model_version} serves, but MLflow's alias could not follow"):
            self._move_alias(_registered_name(universe), model_version, former, promoted_at)

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
        """Return where MLflow's registry disagrees with what serves, a sentence each; empty: they agree.

        Raises:
            NextdayError: a file is damaged, or MLflow failed.
        """
        champion = self._registry.serving(universe)
        serving = None if champion is None else champion.model_version
        if serving is None and not database(self._home).exists():
            return []
        name = _registered_name(universe)
        with self._plainly("MLflow's registry cannot be read"):
            shown = self._alias(name)
        if shown == serving:
            return []
        return [
            f"nextday serves {serving or 'no model'}, but MLflow's alias {CHAMPION!r} of {name} names "
            f"{shown or 'none'}: move the alias, or make a new champion with `nextday retrain`"
        ]

    def ui_command(self, port: int) -> list[str]:
        """Return the command line that shows MLflow's pages on 127.0.0.1, ready for os.execv.

        It gets the database ready first, and sets the environment that the command inherits.

        Raises:
            NextdayError: the database cannot be made.
        """
        with self._plainly("MLflow's pages cannot be shown"):
            url = self._client.tracking_uri
        place = ["--backend-store-uri", url, "--default-artifact-root", artifact_root(self._home)]
        serve = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        return [sys.executable, "-m", "mlflow", "ui", *place, *serve]

    @property
    def _home(self) -> Path:
        return self.home.resolve()

    @property
    def _registry(self) -> Registry:
        return Registry(self.home, self.digest)

    @cached_property
    def _client(self) -> Any:
        return open_client(self._home)

    @contextmanager
    def _plainly(self, what: str) -> Iterator[None]:
        """Turn whatever MLflow, Alembic, SQLAlchemy or the disk raise into one error of ours."""
        try:
            yield
        except NextdayError:
            raise
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise NextdayError(
                f"{what}: {reason[0]}",
                where=str(database(self._home)),
                fix="forecasts and ledger stand without it: make room if the disk is full; if the file is damaged, "
                "move it away, and the next run makes a new one",
            ) from error

    @contextmanager
    def _recording(self, universe: str, run_name: str, tags: Mapping[str, str]) -> Iterator[tuple[Any, bool]]:
        """Give a run and whether there is anything to write: not if one that says the same has ended well.

        A run whose writer failed or was killed is taken up again: what it says already is said a second time without
        effect. What is new or taken up ends FINISHED or FAILED.
        """
        name = _registered_name(universe)
        with self._plainly(f"The run {run_name!r} cannot be tracked"):
            experiment = self._experiment(name)
            said = self._same(experiment, run_name, tags)
            run = said.get("FINISHED") or next(iter(said.values()), None)
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

    def _same(self, experiment: str, run_name: str, tags: Mapping[str, str]) -> dict[str, Any]:
        """Return, by status, a run that says the same."""
        same = [f"tags.{name} = '{tags[name]}'" for name in _IDENTITY if name in tags]
        found = self._client.search_runs(
            [experiment], " and ".join([f"attributes.run_name = '{run_name}'", *same])
        )
        return {run.info.status: run for run in found}

    def _end_killed(self, experiment: str, but: Any | None) -> None:
        """Mark what has no end: one run a universe works at a time, so whoever began these is dead."""
        for run in self._client.search_runs([experiment], "attributes.status = 'RUNNING'"):
            if "record" in run.data.tags and run.info.run_id != (but and but.info.run_id):
                self._client.set_terminated(run.info.run_id, "KILLED")

    def _experiment(self, name: str) -> str:
        client = self._client
        with locked(self._home):
            known = client.get_experiment_by_name(name)
            if known:
                return str(known.experiment_id)
            return str(client.create_experiment(name, artifact_location=artifact_root(self._home)))

    def _log_params(self, run: Any, params: Sequence[tuple[str, str]]) -> None:
        from mlflow.entities import Param

        for start in range(0, len(params), _MOST_PARAMS):
            some = [Param(*pair) for pair in params[start : start + _MOST_PARAMS]]
            self._client.log_batch(run.info.run_id, params=some)

    def _log_metrics(self, run: Any, measured: Sequence[Measured]) -> None:
        from mlflow.entities import Metric

        at = run.info.start_time
        metrics = [Metric(name, float(value), at, step) for name, value, step in measured if pd.notna(value)]
        for start in range(0, len(metrics), _MOST_METRICS):
            self._client.log_batch(run.info.run_id, metrics=metrics[start : start + _MOST_METRICS])

    def _log_artifacts(self, run_id: str, artifacts: Sequence[Path]) -> None:
        for path in artifacts:
            self._client.log_artifact(run_id, str(path))

    def _register(self, universe: str, run_id: str, tags: Mapping[str, str]) -> int:
        name = _registered_name(universe)
        with locked(self._home):
            number = self._number(name, tags["model_version"])
            if number is not None:
                return number
            if not self._client.search_registered_models(f"name = '{name}'"):
                self._client.create_registered_model(name)
            source = f"runs:/{run_id}/model"
            return int(self._client.create_model_version(name, source, run_id, tags=dict(tags)).version)

    def _number(self, name: str, model_version: str) -> int | None:
        wanted = f"name = '{name}' and tags.model_version = '{model_version}'"
        found = self._client.search_model_versions(wanted)
        return int(found[0].version) if found else None

    def _alias(self, name: str) -> str | None:
        """Return the model_version that the alias names."""
        found = self._client.search_registered_models(f"name = '{name}'")
        number = found[0].aliases.get(CHAMPION) if found else None
        if number is None:
            return None
        return str(
            self._client.get_model_version(name, number).tags.get("model_version", f"version {number}")
        )

    def _move_alias(self, name: str, model_version: str, former: str | None, promoted_at: datetime) -> None:
        number = self._number(name, model_version)
        if number is None:
            raise NextdayError(
                f"MLflow's registry has lost the model {model_version} of {name}",
                where=str(database(self._home)),
                fix="it serves all the same; `nextday retrain` registers a new one",
            )
        self._client.set_registered_model_alias(name, CHAMPION, str(number))
        if former == model_version:
            return
        stamp = promoted_at.astimezone(UTC).isoformat()
        self._client.set_model_version_tag(name, str(number), "promoted_at", stamp)
        replaced = self._number(name, former) if former else None
        if replaced is not None:
            self._client.set_model_version_tag(name, str(replaced), "replaced_at", stamp)


def _registered_name(universe: str) -> str:
    check_universe(universe)
    return f"nextday-{universe}"
