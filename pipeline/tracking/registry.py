"""The registered models and the champion: JSON files next to the models, read without TensorFlow or MLflow's database.

They hold no absolute path, so a workspace may be moved. Each entry has a digest of its own, and the digests of its
model's evaluation; an entry of an earlier nextday has none until the list is written next.
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pandas as pd

from pipeline.errors import InputError, NextdayError
from pipeline.storage.files import hold_lock, write_text

__all__ = ["RegisteredModel", "Registry", "check_universe", "registered_name"]

_PATIENCE: Final = 60.0  # seconds: the holder of the lock writes two small files
_LIST_FIX: Final = (
    "restore it from a backup (nextday restore); without one, move it away: the champion still serves, and "
    "`nextday retrain` begins a new list"
)
_UNIVERSE: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True)
class RegisteredModel:
    """A registered model.

    Attributes:
        model_version: Digest of its files.
        directory: The folder of its files.
        trained_through: The last session it may have learned from (tz-naive midnight).
        promoted_at: When it last became champion (UTC); None if it never did.
        run_id: MLflow's run of its training.
        number: Its number in MLflow's registry, from 1.
        tags: The tags it was registered with.
        evaluation: The sha256 of each file of its evaluation; empty where an earlier nextday registered it.
    """

    model_version: str
    directory: Path
    trained_through: pd.Timestamp
    promoted_at: datetime | None
    run_id: str
    number: int
    tags: Mapping[str, str]
    evaluation: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Registry:
    """The models of a workspace, in models/<universe>/<model_version>/.

    Every method raises InputError if the universe's name is invalid, and NextdayError if versions.json (all registered
    models, oldest first) is damaged. A damaged or missing champion.json (the champion's entry) is read from that list.

    Attributes:
        home: The workspace.
        digest: Returns the model_version of the files in a folder; raises if they are not a model.
        say: Told what was repaired; without it nothing is.
        fetch: Brings the files of a model, by universe and version, from where other machines keep them too.
    """

    home: Path
    digest: Callable[[Path], str]
    say: Callable[[str], None] | None = None
    fetch: Callable[[str, str], None] | None = None

    def champion(self, universe: str) -> RegisteredModel | None:
        """Return the champion, its files verified, or None if none was promoted yet.

        Raises:
            NextdayError: the model's files are missing or damaged.
        """
        model = self.serving(universe)
        if model is not None:
            self.verify(universe, model.model_version)
        return model

    def version(self, universe: str, model_version: str) -> RegisteredModel:
        """Return one registered model, its files verified.

        Raises:
            NextdayError: there is no such model, or its files are missing or damaged.
        """
        entry = _find_entry(self._entries(universe), universe, model_version)
        self.verify(universe, model_version)
        return self._model(universe, entry)

    def versions(self, universe: str) -> list[RegisteredModel]:
        """Return every registered model, newest first, without verifying their files."""
        return [self._model(universe, entry) for entry in reversed(self._entries(universe))]

    def serving(self, universe: str) -> RegisteredModel | None:
        """Return the champion without verifying its files, or None if none was promoted yet."""
        entry, damage = self._find_champion(universe)
        if damage and self.say:
            self.say(self._repair(universe))
        return self._model(universe, entry) if entry else None

    def describe_champion_damage(self, universe: str) -> str:
        """Return what is wrong with champion.json ("was damaged", "was missing"); empty if nothing is.

        Raises:
            NextdayError: also where there is a champion, but no list of models.
        """
        entry, damage = self._find_champion(universe)
        if entry and not self._entries(universe):
            path = self._folder(universe) / "versions.json"
            raise NextdayError("The list of models is missing", where=str(path), fix=_LIST_FIX)
        return damage

    def add_evaluation(self, universe: str, model_version: str, digests: Mapping[str, str]) -> None:
        """Add the digests of an evaluation to a model that has none yet."""
        with self._locked(universe):
            entries, serving = self._entries(universe), self._find_champion(universe)[0]
            entry = _find_entry(entries, universe, model_version)
            if entry.get("evaluation"):
                return
            entry["evaluation"] = dict(digests)
            self._write(universe, "versions.json", entries)
            if serving and serving["model_version"] == model_version:
                self._write(universe, "champion.json", entry)

    def shorten_evaluations(self, universe: str, versions: Collection[str], kept: Collection[str]) -> None:
        """Take the files that are not `kept` off the evaluations of these models: they are about to be removed."""
        with self._locked(universe):
            entries = self._entries(universe)
            for entry in entries:
                listed = entry.get("evaluation", {})
                if entry["model_version"] in versions and not listed.keys() <= {*kept}:
                    entry["evaluation"] = {name: digest for name, digest in listed.items() if name in kept}
            self._write(universe, "versions.json", entries)

    def add(
        self,
        universe: str,
        model_version: str,
        run_id: str,
        number: int,
        tags: Mapping[str, str],
        evaluation: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Register a model; an entry that exists already is kept.

        Args:
            universe: The universe's name.
            model_version: Digest of its files.
            run_id: MLflow's run of its training.
            number: Its number in MLflow's registry.
            tags: Its tags; `trained_through` (a date) must be among them.
            evaluation: The sha256 of each file of its evaluation.
        """
        with self._locked(universe):
            entries = self._entries(universe)
            if any(entry["model_version"] == model_version for entry in entries):
                return
            named = {"model_version": model_version, "trained_through": tags["trained_through"]}
            entry = {**named, "promoted_at": None, "run_id": run_id, "number": number, "tags": dict(tags)}
            entry |= {"evaluation": dict(evaluation)} if evaluation else {}
            self._write(universe, "versions.json", [*entries, entry])

    def promote(self, universe: str, model_version: str, promoted_at: datetime) -> str | None:
        """Make a registered model the champion; if it already is, nothing changes.

        Returns:
            The model_version of the champion before.

        Raises:
            NextdayError: the model is not registered, or its files are missing or damaged.
        """
        self.verify(universe, model_version)
        with self._locked(universe):
            former, entries = self.serving(universe), self._entries(universe)
            entry = _find_entry(entries, universe, model_version)
            if former is None or former.model_version != model_version:
                entry["promoted_at"] = promoted_at.astimezone(UTC).isoformat()
                self._write(universe, "versions.json", entries)
                self._write(universe, "champion.json", entry)
        return None if former is None else former.model_version

    def verify(self, universe: str, model_version: str) -> Path:
        """Return the model's folder if it holds exactly the files of `model_version`.

        Raises:
            NextdayError: they are missing or damaged.
        """
        directory = self._folder(universe) / model_version
        found = self._find_digest(directory)
        if found != model_version and self.fetch:
            self.fetch(universe, model_version)
            found = self._find_digest(directory)
        if found != model_version:
            raise NextdayError(
                f"The files of the model {model_version} are missing or damaged: their digest is {found}",
                where=str(directory),
                fix="restore the folder, or make a new champion with `nextday retrain`",
            )
        return directory

    def follow(self, universe: str, entries: Sequence[Mapping[str, Any]], champion: str | None) -> None:
        """Take over the list of models that several machines share, and its champion.

        Models that are only in the list of the workspace stay there, and evaluations as they were shortened here.

        Args:
            universe: The universe's name.
            entries: As in versions.json, oldest first, without their digests.
            champion: The model_version of the champion; None: there is none yet.
        """
        with self._locked(universe):
            there = self._entries(universe)
            kept = {
                each["model_version"]: {"evaluation": each["evaluation"]}
                for each in there
                if "evaluation" in each
            }
            shared = [{**entry, **kept.get(entry["model_version"], {})} for entry in entries]
            named = {entry["model_version"] for entry in shared}
            merged = [entry for entry in there if entry["model_version"] not in named] + shared
            if [_digest(each) for each in merged] != [_digest(each) for each in there]:
                self._write(universe, "versions.json", merged)
            if champion is None:
                return
            serving = _find_entry(merged, universe, champion)
            try:
                is_known = _digest(self._read(universe, "champion.json") or {}) == _digest(serving)
            except NextdayError:
                is_known = False
            if not is_known:
                self._write(universe, "champion.json", serving)

    def _find_digest(self, directory: Path) -> str:
        try:
            return self.digest(directory)
        except Exception as error:  # the caller's digest raises its own errors
            return f"none ({(str(error) or type(error).__name__).splitlines()[0]})"

    def _folder(self, universe: str) -> Path:
        check_universe(universe)
        return self.home.resolve() / "models" / universe

    def _locked(self, universe: str) -> AbstractContextManager[None]:
        return hold_lock(self._folder(universe) / ".registry.lock", _PATIENCE)

    def _entries(self, universe: str) -> list[dict[str, Any]]:
        return list(self._read(universe, "versions.json") or [])

    def _repair(self, universe: str) -> str:
        """Write champion.json again, and return that in one sentence."""
        with self._locked(universe):
            entry, damage = self._find_champion(universe)
            if entry and damage:
                self._write(universe, "champion.json", entry)
        named = entry["model_version"] if entry else "no model"
        return f"champion.json {damage}: it was written again from the list of models, where {named} was promoted last"

    def _find_champion(self, universe: str) -> tuple[dict[str, Any] | None, str]:
        """Return the champion's entry, and what is wrong with champion.json where the entry comes from the list."""
        try:
            entry = self._read(universe, "champion.json")
            damage = "" if entry else "was missing"
        except NextdayError as error:
            entry, damage, broken = None, "was damaged", error
        if entry:
            return entry, ""
        promoted = [each for each in self._entries(universe) if each["promoted_at"]]
        if promoted:
            return max(promoted, key=lambda each: datetime.fromisoformat(each["promoted_at"])), damage
        if damage == "was damaged":
            raise broken
        return None, ""

    def _read(self, universe: str, name: str) -> Any:
        path = self._folder(universe) / name
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            for entry in content if isinstance(content, list) else [content]:
                self._model(universe, entry)
                if entry.get("sha256", _digest(entry)) != _digest(entry):
                    raise ValueError(f"the entry of {entry['model_version']} was changed")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise NextdayError(
                f"The list of models cannot be read: {str(error) or type(error).__name__:.200}",
                where=str(path),
                fix=_LIST_FIX,
            ) from None
        return content

    def _write(self, universe: str, name: str, content: list[dict[str, Any]] | dict[str, Any]) -> None:
        for entry in content if isinstance(content, list) else [content]:
            entry["sha256"] = _digest(entry)
        write_text(self._folder(universe) / name, json.dumps(content, indent=1) + "\n")

    def _model(self, universe: str, entry: Mapping[str, Any]) -> RegisteredModel:
        promoted_at = entry["promoted_at"]
        return RegisteredModel(
            model_version=entry["model_version"],
            directory=self._folder(universe) / entry["model_version"],
            trained_through=pd.Timestamp(entry["trained_through"]),
            promoted_at=datetime.fromisoformat(promoted_at) if promoted_at else None,
            run_id=entry["run_id"],
            number=entry["number"],
            tags=entry["tags"],
            evaluation=entry.get("evaluation", {}),
        )


def check_universe(name: str) -> None:
    """Raise unless `name` is valid as the name of a universe: its folders and its registered model bear it.

    Raises:
        InputError: it is not.
    """
    if not _UNIVERSE.fullmatch(name):
        raise InputError(
            f"{name!r} cannot name a universe",
            fix="use 1 to 63 of a-z, 0-9, - and _, beginning with a letter or digit",
        )


def registered_name(universe: str) -> str:
    """Return the name of a universe's experiment and registered model in MLflow.

    Raises:
        InputError: the universe's name is invalid.
    """
    check_universe(universe)
    return f"nextday-{universe}"


def _digest(entry: Mapping[str, Any]) -> str:
    """Return the digest of an entry, without the one that it holds."""
    facts = {name: fact for name, fact in entry.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _find_entry(entries: list[dict[str, Any]], universe: str, model_version: str) -> dict[str, Any]:
    for entry in entries:
        if entry["model_version"] == model_version:
            return entry
    raise NextdayError(
        f"There is no registered model {model_version} of {universe!r}",
        where=f"models/{universe}/versions.json of the workspace",
        fix="`nextday retrain` makes and registers one",
    )
