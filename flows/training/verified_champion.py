"""The models that serve or served, each verified once per run, with typed facts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from flows.runtime.context import Run
from flows.runtime.progress import log_line
from flows.runtime.tracking import registry
from models.ensembles.model_files import METADATA, parse_metadata
from models.errors import ModelError
from pipeline.config import Config, ModelConfig
from pipeline.errors import InputError
from pipeline.features.columns import FeatureSet
from pipeline.inputs_config import ContextConfig
from pipeline.outputs import DIRECTION, NEXT, Output
from pipeline.tracking.challengers import ChallengerBook
from pipeline.tracking.registry import RegisteredModel

__all__ = ["Champion", "Champions", "champion_known_at", "read_champion"]

_CODE = ("features", "model", "features_code", "model_code", "to_be_audited")
_FORMER = {"default": "default16"}
"""Feature sets by the name under which earlier versions saved their models."""


@dataclass(frozen=True, eq=False)
class Champion:
    """A model that serves or served: its registration, what it reads and how it was trained.

    Attributes:
        version: Digest of its files.
        directory: The folder of its files.
        trained_through: The last session it may have learned from.
        promoted_at: When it last became champion (UTC); None if it never did.
        run_id: MLflow's run of its training.
        features: The name of its feature set.
        added: What was added to that set, see [features] add.
        sectors: The sectors with a column of their own.
        lookback: How many sessions one forecast reads.
        outputs: What it forecasts, in the order of its outputs.
        start: The session that a model in sequence mode reads from; None: a window of `lookback` sessions.
        kind: [model] kind.
        options: [model] options of a custom model.
        dead_zone: [labels] dead_zone.
        settings: All settings that it was trained with, as they were stored.
        code: Custom code that made it: its places and digests, and the digest of the settings to be audited.
        metadata: The content of its model.json, for its weights and its card.
        evaluation: The sha256 of each file of its evaluation; empty where an earlier nextday registered it.
    """

    version: str
    directory: Path
    trained_through: pd.Timestamp
    promoted_at: datetime | None
    run_id: str
    features: str
    lookback: int
    outputs: tuple[Output, ...]
    start: pd.Timestamp | None
    kind: str
    options: Mapping[str, Any]
    dead_zone: list[float]
    settings: Mapping[str, Any]
    code: Mapping[str, str]
    metadata: Mapping[str, Any]
    evaluation: Mapping[str, str] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    sectors: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The model's name in scores."""
        return ModelConfig(kind=self.kind).name

    def feature_set(self, run: Run) -> FeatureSet:
        """Return what it reads.

        Raises:
            ConfigError: it is a custom set, and cannot be found.
            InputError: the settings no longer name the sectors or the context series that it reads.
        """
        if lacking := self.find_lacking(run):
            raise InputError(
                f"The champion reads {lacking}",
                where="[universe] sector" if lacking.startswith("the sectors") else "[context]",
                fix="set that as it was, or `nextday retrain` trains a champion with the new settings",
            )
        return run.feature_set(self.features, self.outputs, self.added, self.sectors)

    def find_lacking(self, run: Run) -> str:
        """Return what it reads that the run's settings lack, for the middle of a sentence; empty if nothing."""
        if "sector" in self.added and not run.universe.sectors:
            return "the sectors of the constituents, and the settings name no column of them"
        if "context" in self.added:
            read = ContextConfig.model_validate(self.settings["context"])
            if read.joined != run.config.context.joined:
                return f"{', '.join(read.symbols)} as context, and the settings name others, or join them otherwise"
        return ""

    def resolve_settings(self) -> Mapping[str, Any]:
        """Return the settings it was trained with; a key that was added later has what was done before it."""
        try:
            return Config.model_validate(_with_former_meaning(self.settings)).resolved()
        except ValueError:  # of another nextday
            return self.settings


def _with_former_meaning(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return settings from before there was a second fit with what they meant in the words of today."""
    training, features = settings.get("training", {}), settings.get("features", {})
    if "refit" in training:
        return settings
    name = features.get("set", "default")
    return {
        **settings,
        "training": {**training, "refit": False, "smooth_epochs": 1},
        "features": {**features, "set": _FORMER.get(name, name)},
        "calibration": {"method": "temperature", **settings.get("calibration", {})},
    }


class Champions:
    """The registered models of the run's universe; the files of each are verified once, when it is first needed."""

    def __init__(self, run: Run) -> None:
        self._registry = registry(run, say=log_line)
        self._universe = run.name
        self._verified: dict[str, Champion] = {}

    def serving(self) -> Champion | None:
        """Return the champion, or None if none was promoted yet.

        Raises:
            NextdayError: its files are missing or damaged.
            ModelError: its metadata cannot be read.
        """
        model = self._registry.serving(self._universe)
        return None if model is None else self._verify(model)

    def check_list(self) -> None:
        """Read what a training will write to; champion.json is written again where it is damaged.

        Raises:
            NextdayError: the list of models is damaged.
        """
        self._registry.versions(self._universe)
        self._registry.serving(self._universe)

    def version(self, model_version: str) -> Champion:
        """Return one registered model.

        Raises:
            NextdayError: there is no such model, or its files are missing or damaged.
            ModelError: its metadata cannot be read.
        """
        if model_version in self._verified:
            return self._verified[model_version]
        for model in self._registered:
            if model.model_version == model_version:
                return self._verify(model)
        return self.add(read_champion(self._registry.version(self._universe, model_version)))

    def known_at(self, session: pd.Timestamp) -> Champion | None:
        """Return the model that served at `session`; else the present champion, else the newest former one.

        Its labels were known at `session`.

        Raises:
            NextdayError: its files are missing or damaged.
            ModelError: its metadata cannot be read.
        """
        model = self._served_at(session) or champion_known_at(self._registered, session)
        return None if model is None else self._verify(model)

    def _served_at(self, session: pd.Timestamp) -> RegisteredModel | None:
        """Return the champion of that session, or the present one, if its labels were known then."""
        noted = ChallengerBook(self._registry.home).promotions(self._universe)
        then = [each for each in noted if each.on <= session]
        serving = self._registry.serving(self._universe)
        versions = [each.model_version for each in then[-1:]] + ([serving.model_version] if serving else [])
        known = {model.model_version: model for model in self._registered}
        usable = (
            known[each] for each in versions if each in known and known[each].trained_through <= session
        )
        return next(usable, None)

    def renew(self, champion: Champion) -> None:
        """Keep a model that has just been promoted in place of what was known of it."""
        self._verified[champion.version] = champion

    def add(self, champion: Champion) -> Champion:
        """Keep a model that has been verified already, and return it."""
        return self._verified.setdefault(champion.version, champion)

    @cached_property
    def _registered(self) -> list[RegisteredModel]:
        return self._registry.versions(self._universe)

    def _verify(self, model: RegisteredModel) -> Champion:
        if model.model_version not in self._verified:
            self._registry.verify(self._universe, model.model_version)
            self.add(read_champion(model))
        return self._verified[model.model_version]


def champion_known_at(models: list[RegisteredModel], session: pd.Timestamp) -> RegisteredModel | None:
    """Return the first of `models`, newest first, that was once promoted and whose labels were known at `session`."""
    known = (m for m in models if m.promoted_at is not None and m.trained_through <= session)
    return next(known, None)


def _read_outputs(extra: Mapping[str, Any], labels: Mapping[str, Any]) -> tuple[Output, ...]:
    """Return the outputs; settings from before there were targets mean directions, before horizons the next session."""
    if "outputs" in extra:
        return tuple(Output(str(target), int(horizon)) for target, horizon in extra["outputs"])
    return tuple(Output(DIRECTION, horizon) for horizon in labels.get("horizons", [NEXT]))


def read_champion(model: RegisteredModel) -> Champion:
    """Return the facts of a registered model whose files have just been verified.

    Raises:
        ModelError: its metadata cannot be read.
    """
    metadata = parse_metadata(model.directory)
    try:
        extra, settings = metadata["extra"], metadata["extra"]["settings"]
        return Champion(
            version=model.model_version,
            directory=model.directory,
            trained_through=model.trained_through,
            promoted_at=model.promoted_at,
            run_id=model.run_id,
            features=_FORMER.get(extra["features"], str(extra["features"])),
            lookback=int(settings["model"]["lookback"]),
            outputs=_read_outputs(extra, settings["labels"]),
            start=pd.Timestamp(extra["start"]) if extra.get("start") else None,
            kind=settings["model"]["kind"],
            options=settings["model"].get("options", {}),
            dead_zone=settings["labels"]["dead_zone"],
            settings=settings,
            code={name: str(extra[name]) for name in _CODE if name in extra},
            # Prefect walks through a task's dicts: this one may be large.
            metadata=MappingProxyType(metadata),
            evaluation=model.evaluation,
            added=tuple(extra.get("added", ())),
            sectors=tuple(extra.get("sectors", ())),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as broken:
        raise ModelError(
            f"this is no description of a champion: {broken!r}",
            where=str(model.directory / METADATA),
            fix="read it with the version of nextday that saved it, or train again",
        ) from None
