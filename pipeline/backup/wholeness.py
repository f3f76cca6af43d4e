"""Compare everything of a workspace that has a digest with it: models, their evaluations and list, settings, trials.

Prices and ledger check themselves whenever they are read.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from pipeline.config import digest as digest_settings
from pipeline.errors import NextdayError
from pipeline.storage.files import digest_files
from pipeline.storage.workspace import Workspace
from pipeline.tracking.challengers import ChallengerBook
from pipeline.tracking.registry import RegisteredModel, Registry
from pipeline.tracking.trials import TrialBook

__all__ = ["REPLACE", "find_damage"]

REPLACE: Final = (
    "take these files from an earlier backup; or remove what it does not have: a forecast that was made with it can "
    "then no longer be replayed, and for a damaged champion run nextday retrain first"
)


def find_damage(home: Path, digest: Callable[[Path], str]) -> list[str]:
    """Return each damaged file of a workspace, with what is wrong; what was removed on purpose is no damage.

    Args:
        home: The workspace.
        digest: Returns the model_version of the files in a folder; raises if they are not a model.
    """
    found = [
        *_find_in_models(home, digest),
        *_find_in_settings(home),
        *_find_in_trials(home),
        *_find_in_databases(home),
    ]
    return [f"{_name(path, home)}: {what}" for path, what in found]


def _find_in_models(home: Path, digest: Callable[[Path], str]) -> Iterator[tuple[Path, str]]:
    registry = Registry(home, digest)
    for folder in sorted(path for path in (home / "models").glob("*") if path.is_dir()):
        try:
            models, serving = registry.versions(folder.name), registry.serving(folder.name)
            damage = registry.describe_champion_damage(folder.name)
        except NextdayError as error:
            yield Path(error.where or folder), error.what
            continue
        if damage:
            yield folder / "champion.json", f"it {damage}"
        yield from _find_in_challengers(home, folder.name)
        for model in models:
            is_serving = serving is not None and model.model_version == serving.model_version
            yield from _find_in_model(registry, folder.name, model, is_serving)


def _find_in_challengers(home: Path, universe: str) -> Iterator[tuple[Path, str]]:
    book = ChallengerBook(home)
    for read in (book.challengers, book.promotions):
        try:
            read(universe)
        except NextdayError as error:
            yield Path(error.where), error.what


def _find_in_model(
    registry: Registry, universe: str, model: RegisteredModel, is_serving: bool
) -> Iterator[tuple[Path, str]]:
    if is_serving or model.directory.exists():
        try:
            registry.verify(universe, model.model_version)
        except NextdayError as error:
            yield model.directory, error.what
    folder = Workspace(registry.home).evaluation(universe, model.model_version)
    if folder.exists():
        there = digest_files(folder)
        for name, listed in model.evaluation.items():
            if there.get(name) != listed:
                yield folder / name, "it was changed since the training" if name in there else "it is missing"


def _find_in_settings(home: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted((home / "settings").glob("[!.]*.json")):
        try:
            found = digest_settings(json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            yield path, f"it cannot be read: {error!s:.100}"
            continue
        if found != path.stem:
            yield path, f"its content has the digest {found}"


def _find_in_trials(home: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted((home / "trials").glob("[!.]*.jsonl")):
        try:
            TrialBook(path).read()
        except NextdayError as error:
            yield path, error.what


def _find_in_databases(home: Path) -> Iterator[tuple[Path, str]]:
    for path in Workspace(home).databases:
        if path == Workspace(home).ledger_file:
            continue
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as db:
                (result,) = db.execute("PRAGMA quick_check(1)").fetchone()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            result = str(error)
        if result != "ok":
            yield path, f"{result:.200}"


def _name(path: Path, home: Path) -> str:
    """Return a path below the workspace; the list of models resolves links."""
    inside = next((each for each in (home, home.resolve()) if path.is_relative_to(each)), None)
    return str(path.relative_to(inside)) if inside else str(path)
