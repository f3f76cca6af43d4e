"""The models of several machines: the registry of an MLflow server holds their lists, and each workspace follows it.

The alias `champion` decides who serves. Challengers and promotions are tags of the registered model, the facts of a
model are tags of its version, and its files lie with the run of its training. A workspace keeps copies of the lists
and of the files that it has used: everything that reads them reads those.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from pipeline.errors import InputError, StoreError
from pipeline.storage.files import digest_files, remove_folder
from pipeline.storage.workspace import Workspace
from pipeline.tracking.challengers import Challenger, ChallengerBook, Promotion
from pipeline.tracking.mlflow_aliases import CHAMPION, find_number, move_alias, name_challengers
from pipeline.tracking.mlflow_server import MlflowServer, explain_server, find_experiment, open_server
from pipeline.tracking.registry import RegisteredModel, Registry, registered_name

__all__ = ["EVALUATION", "SharedModels"]

EVALUATION: Final = "evaluation"
"""The tag of a version with the sha256 of each file of its evaluation, as JSON."""

_PROMOTION: Final = "nextday.promotion."
_CHALLENGER: Final = "nextday.challenger."
_OWN_TAGS: Final = (EVALUATION, "promoted_at", "replaced_at")
_VERSION: Final = re.compile(r"[0-9a-z]{1,64}")
_BY_HAND: Final = "the alias was moved in MLflow"
_PAGE: Final = 200


@dataclass(frozen=True)
class _Shared:
    """What the server holds of a universe.

    Attributes:
        entries: The models as in versions.json, oldest first.
        champion: The model_version that the alias names; empty if it names none of nextday's.
        challengers: In order of entry.
        promotions: Oldest first.
    """

    entries: list[dict[str, Any]] = field(default_factory=list)
    champion: str = ""
    challengers: list[Challenger] = field(default_factory=list)
    promotions: list[Promotion] = field(default_factory=list)

    @property
    def versions(self) -> set[str]:
        return {entry["model_version"] for entry in self.entries}


@dataclass(frozen=True)
class SharedModels:
    """The models that a workspace shares with others.

    Every method raises TrackingUnreachableError if the server does not answer, or refuses.

    Attributes:
        home: The workspace.
        server: The server.
        digest: Returns the model_version of the files in a folder; raises if they are not a model.
    """

    home: Path
    server: MlflowServer
    digest: Callable[[Path], str]

    def follow(self, universe: str, now: datetime) -> list[str]:
        """Bring the lists of the workspace in line with the server; return what a person should know of it.

        Models of a workspace that has worked alone so far are copied to a server without a champion.

        Args:
            universe: The universe's name.
            now: The run's clock.

        Raises:
            InputError: the workspace has models of its own, and the server has a champion already.
            NextdayError: a list of the workspace is damaged.
        """
        registry, told = Registry(self.home, self.digest), list[str]()
        serving = registry.serving(universe)
        with explain_server(self.server, "The champion cannot be told"):
            shared = self._read(universe)
            own = [model for model in registry.versions(universe) if model.directory.is_dir()]
            if unknown := [model for model in own if model.model_version not in shared.versions]:
                self._require_no_champion(universe, shared, unknown)
                self._copy(universe, unknown)
                told.append(f"{len(unknown)} models of this workspace were copied to MLflow ({self.server})")
                shared = self._read(universe)
            if not shared.champion and (named := self._restore_champion(universe, shared, serving)):
                told.append(f"MLflow's alias {CHAMPION!r} named no model: it names {named} now")
                shared = self._read(universe)
            if moved := self._note_moved_alias(universe, shared, now):
                told.append(moved)
                shared = self._read(universe)
        registry.follow(universe, shared.entries, shared.champion or None)
        ChallengerBook(self.home).follow(universe, shared.challengers, shared.promotions)
        if shared.champion and (serving is None or serving.model_version != shared.champion):
            told.append(f"the champion is {shared.champion}, as MLflow says ({self.server})")
        return told

    def champion(self, universe: str) -> str:
        """Return the model_version that the server's alias names; empty if it names none."""
        with explain_server(self.server, "The champion cannot be told"):
            return self._read(universe).champion

    def announce(self, universe: str, promotion: Promotion) -> None:
        """Let every machine see a new champion. A kill in between leaves the former one, and the next run goes on."""
        name = registered_name(universe)
        with explain_server(self.server, f"{promotion.model_version} is not promoted"):
            count = len(self._read(universe).promotions)
            self._client.set_registered_model_tag(name, f"{_PROMOTION}{count + 1:06d}", _to_json(promotion))
            at = datetime.fromisoformat(promotion.promoted_at)
            move_alias(self._client, name, promotion.model_version, promotion.former or None, at)

    def show_challengers(self, universe: str) -> None:
        """Let every machine see the challengers that the workspace lists."""
        name, standing = registered_name(universe), ChallengerBook(self.home).challengers(universe)
        with explain_server(self.server, "The other machines cannot be told of the challengers"):
            tags = {f"{_CHALLENGER}{each.name}": _to_json(each) for each in standing}
            known = self._find_model(name)
            if known is None:
                return
            for key in known.tags.keys() - tags.keys():
                if key.startswith(_CHALLENGER):
                    self._client.delete_registered_model_tag(name, key)
            for key, value in tags.items():
                if known.tags.get(key) != value:
                    self._client.set_registered_model_tag(name, key, value)
            name_challengers(self._client, name, {each.name: each.model_version for each in standing})

    def fetch(self, universe: str, model_version: str) -> None:
        """Bring the files of a model and of its evaluation into the workspace, each compared with its digest.

        Raises:
            StoreError: the server's files are not those of the model.
        """
        models = Registry(self.home, self.digest).versions(universe)
        model = next((each for each in models if each.model_version == model_version), None)
        if model is None:
            return
        what = f"The files of the model {model_version} cannot be fetched"
        with Workspace(self.home).scratch() as scratch, explain_server(self.server, what):
            # The evaluation comes first: where the model is there, so is all that the server has of it.
            self._fetch_evaluation(universe, model, scratch)
            made = Path(self._client.download_artifacts(model.run_id, "model", str(scratch)))
            try:
                found = self.digest(made)
            except Exception as error:  # the caller's digest raises its own errors
                found = f"none ({type(error).__name__})"
            if found != model_version:
                raise StoreError(
                    f"MLflow's files of the model {model_version} are damaged: their digest is {found}",
                    where=f"{self.server}, run {model.run_id}",
                    fix="promote another model (`nextday models list`), or make one with `nextday retrain`",
                )
            model.directory.parent.mkdir(parents=True, exist_ok=True)
            remove_folder(model.directory)
            made.rename(model.directory)

    def _fetch_evaluation(self, universe: str, model: RegisteredModel, scratch: Path) -> None:
        """Fetch what the server has of an evaluation: a lost score must not cost a forecast."""
        folder = Workspace(self.home).evaluation(universe, model.model_version)
        there = digest_files(folder) if folder.is_dir() else {}
        kept = {item.path for item in self._client.list_artifacts(model.run_id)}
        for name, digest in model.evaluation.items():
            if there.get(name) == digest or name not in kept or Path(name).name != name:
                continue
            made = Path(self._client.download_artifacts(model.run_id, name, str(scratch)))
            if hashlib.sha256(made.read_bytes()).hexdigest() == digest:
                folder.mkdir(parents=True, exist_ok=True)
                made.replace(folder / name)

    @cached_property
    def _client(self) -> Any:
        return open_server(self.server)

    def _find_model(self, name: str) -> Any | None:
        found = self._client.search_registered_models(f"name = '{name}'")
        return found[0] if found else None

    def _read(self, universe: str) -> _Shared:
        name = registered_name(universe)
        model = self._find_model(name)
        if model is None:
            return _Shared()
        numbers, entries = {}, dict[str, dict[str, Any]]()
        promotions = [Promotion(**each) for each in _read_tags(model.tags, _PROMOTION)]
        last = {each.model_version: each.promoted_at for each in promotions}
        stamps = {}
        for each in sorted(self._list_versions(name), key=lambda each: int(each.version)):
            version = each.tags.get("model_version", "")
            if not _VERSION.fullmatch(version) or "trained_through" not in each.tags:
                continue  # registered by somebody else
            numbers[str(each.version)] = version
            stamps[version] = each.tags.get("promoted_at", "")
            entries.setdefault(version, _make_entry(each, last.get(version) or stamps[version] or None))
        champion = numbers.get(str(dict(model.aliases).get(CHAMPION, "")), "")
        if promotions and promotions[-1].model_version != champion:
            newest = promotions[-1]
            is_done = stamps.get(newest.model_version) == newest.promoted_at
            if champion == newest.former and not is_done:  # its machine was killed before the alias followed
                promotions = promotions[:-1]
        challengers = [Challenger(**each) for each in _read_tags(model.tags, _CHALLENGER)]
        challengers.sort(key=lambda each: each.entered_at)
        return _Shared([*entries.values()], champion, challengers, promotions)

    def _list_versions(self, name: str) -> list[Any]:
        found, token = list[Any](), None
        while True:
            page = self._client.search_model_versions(f"name = '{name}'", max_results=_PAGE, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _require_no_champion(
        self, universe: str, shared: _Shared, unknown: Sequence[RegisteredModel]
    ) -> None:
        if shared.champion:
            raise InputError(
                f"This workspace has models that MLflow does not know ({unknown[0].model_version}), and MLflow's "
                f"champion is {shared.champion}",
                where=f"{self.home / 'models' / universe} and {self.server}",
                fix="use an empty workspace (--home DIR), or move that folder away to go on with MLflow's models; if "
                "the server has lost models, restore it",
            )

    def _copy(self, universe: str, models: Sequence[RegisteredModel]) -> None:
        """Copy models to the server, oldest first; curves and parameters stay in the workspace's mlflow.db."""
        name = registered_name(universe)
        experiment = find_experiment(self._client, name)
        if self._find_model(name) is None:
            self._client.create_registered_model(name)
        for model in sorted(models, key=lambda each: each.number):
            run_name = f"{universe} through {model.trained_through:%Y-%m-%d}"
            tags = {**model.tags, "record": "training"}
            run = self._client.create_run(experiment, run_name=run_name, tags=tags)
            run_id = run.info.run_id
            evaluation = Workspace(self.home).evaluation(universe, model.model_version)
            for folder, place in ((evaluation, None), (model.directory, "model")):
                for path in sorted(folder.glob("[!.]*")):
                    self._client.log_artifact(run_id, str(path), place)
            about = {**model.tags, EVALUATION: json.dumps(dict(model.evaluation))}
            if model.promoted_at:
                about["promoted_at"] = model.promoted_at.isoformat()
            self._client.create_model_version(
                name, f"runs:/{run_id}/model", run_id, tags=about, await_creation_for=0
            )
            self._client.set_terminated(run_id, "FINISHED")

    def _restore_champion(self, universe: str, shared: _Shared, serving: RegisteredModel | None) -> str:
        """Let the alias name the model that was promoted last, and return it; empty if none ever was.

        Where the server knows of no promotion and no challenger, those of the workspace are copied.
        """
        name, book = registered_name(universe), ChallengerBook(self.home)
        own = serving.model_version if serving else ""
        last = shared.promotions[-1].model_version if shared.promotions else own
        if last not in shared.versions:
            return ""
        if not shared.promotions:
            for count, promotion in enumerate(book.promotions(universe), 1):
                self._client.set_registered_model_tag(name, f"{_PROMOTION}{count:06d}", _to_json(promotion))
        if not shared.challengers:
            for each in book.challengers(universe):
                self._client.set_registered_model_tag(name, f"{_CHALLENGER}{each.name}", _to_json(each))
        self._client.set_registered_model_alias(name, CHAMPION, str(find_number(self._client, name, last)))
        return last

    def _note_moved_alias(self, universe: str, shared: _Shared, now: datetime) -> str:
        """Write down that a person has moved the alias in MLflow, and return that; empty if nobody has."""
        last = shared.promotions[-1].model_version if shared.promotions else ""
        if not shared.champion or not last or shared.champion == last:
            return ""
        at = now.astimezone(UTC).isoformat()
        self.announce(universe, Promotion(shared.champion, last, at, "by hand", _BY_HAND))
        return f"champion {shared.champion} promoted: {_BY_HAND}"


def _make_entry(version: Any, promoted_at: str | None) -> dict[str, Any]:
    tags = {name: value for name, value in version.tags.items() if name not in _OWN_TAGS}
    entry = {
        "model_version": tags["model_version"],
        "trained_through": tags["trained_through"],
        "promoted_at": promoted_at,
        "run_id": version.run_id,
        "number": int(version.version),
        "tags": tags,
    }
    evaluation = json.loads(version.tags.get(EVALUATION, "{}"))
    return entry | ({"evaluation": evaluation} if evaluation else {})


def _read_tags(tags: Mapping[str, str], prefix: str) -> list[dict[str, Any]]:
    return [json.loads(tags[name]) for name in sorted(tags) if name.startswith(prefix)]


def _to_json(entry: Challenger | Promotion) -> str:
    return json.dumps(asdict(entry), sort_keys=True)
