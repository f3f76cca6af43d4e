"""The settings of the model and its training."""

import json
from typing import Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.config_section import Plain, Section
from pipeline.plugins import BASELINE_NAMES, is_custom_code, plain_options

__all__ = ["ADDED_KEYS", "CLASSIFIERS", "NETWORKS", "RECURRENT", "ModelConfig", "TrainingConfig"]

RECURRENT: Final = ("gru", "lstm", "rnn")
"""[model] kind of recurrent networks."""

NETWORKS: Final = (*RECURRENT, "linear", "tcn")
"""[model] kind of nextday's networks."""

CLASSIFIERS: Final = ("boosting", "logistic")
"""[model] kind of classifiers of scikit-learn."""

_WITHOUT_EFFECT: Final = {
    "tcn": ("convolution attention", ""),
    "linear": ("convolution attention linear_skip", "dropout adversarial"),
    **dict.fromkeys(
        CLASSIFIERS,
        (
            "convolution attention linear_skip scope",
            "warm_start dropout weight_decay adversarial sample_weight device",
        ),
    ),
    "custom": ("linear_skip", "dropout weight_decay adversarial sample_weight device"),
}
"""The settings of [model] and [training] that a kind has no use for."""

ADDED_KEYS: Final = {
    "model": ("linear_skip",),
    "training": ("dropout", "weight_decay", "adversarial", "sample_weight"),
}
"""Keys of later versions, by section: at their defaults they mean what earlier versions did without them."""

SCHEDULER_PATTERN: Final = r"^((tcp|tls|ws|wss|ucx)://[^@/\s]+:[0-9]+)?$"


class ModelConfig(Section):
    """The network, the classifier, or a custom model."""

    kind: str = "gru"
    options: dict[str, Plain | list[Plain]] = Field(default_factory=dict)
    units: int = Field(16, ge=1, le=1024)
    layers: int = Field(1, ge=1, le=8)
    convolution: int = Field(0, ge=0, le=250)
    attention: bool = False
    linear_skip: bool = False
    lookback: int = Field(20, ge=1, le=1000)
    members: int = Field(5, ge=1, le=100)
    scope: Literal["pooled", "symbol"] = "pooled"

    @property
    def is_custom(self) -> bool:
        """Whether the model is custom code."""
        return ":" in self.kind

    @property
    def is_classifier(self) -> bool:
        """Whether the model is a classifier of scikit-learn."""
        return self.kind in CLASSIFIERS

    @property
    def is_network(self) -> bool:
        """Whether the model is one of nextday's networks."""
        return self.kind in NETWORKS

    @property
    def is_deep(self) -> bool:
        """Whether the model is a network that is more than a linear map of its window."""
        return self.is_network and self.kind != "linear"

    @property
    def name(self) -> str:
        """The name in scores and on pages: the kind, or the class name of a custom model."""
        return self.kind.rpartition(":")[2]

    @field_validator("kind")
    @classmethod
    def _check_kind(cls, kind: str) -> str:
        built_in = (*NETWORKS, *CLASSIFIERS)
        if kind not in built_in and not is_custom_code(kind):
            raise ValueError(f"write {', '.join(built_in)}, or package.module:Name for a custom model")
        if (name := kind.rpartition(":")[2]).lower() in BASELINE_NAMES:
            raise ValueError(f"{name} is the name of a baseline: rename the class")
        return kind

    @field_validator("options", mode="before")
    @classmethod
    def _check_options(cls, options: object) -> object:
        return plain_options(options, with_lists=True)

    @model_validator(mode="after")
    def _check_custom_model(self) -> Self:
        if self.options and not self.is_custom:
            raise ValueError("options are for a custom model: kind = 'package.module:Name'")
        if self.is_custom and self.scope == "symbol":
            raise ValueError("scope = 'symbol' is for nextday's networks: a custom model sees all symbols")
        return self

    def without_effect(self, training: "TrainingConfig") -> list[str]:
        """Return the settings that are not the default and that this kind of model has no use for, as they are written.

        Sizes that a file may list anyway (units, layers, members) are not among them.
        """
        of_model, of_training = _WITHOUT_EFFECT.get("custom" if self.is_custom else self.kind, ("", ""))
        given: list[tuple[str, Section, str]] = [("[model]", self, name) for name in of_model.split()]
        given += [("[training]", training, name) for name in of_training.split()]
        return [
            f"{section} {name} = {json.dumps(value)}"
            for section, settings, name in given
            if (value := getattr(settings, name)) != type(settings).model_fields[name].default
        ]


class TrainingConfig(Section):
    """How the network is fitted."""

    mode: Literal["windowed", "sequence"] = "windowed"
    epochs: int = Field(20, ge=1, le=10_000)
    batch_size: int = Field(256, ge=1, le=65_536)
    chunk: int = Field(252, ge=2, le=10_000)
    learning_rate: float = Field(3e-4, gt=0, lt=1)
    schedule: Literal["constant", "cosine"] = "constant"
    clip_norm: float = Field(1.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0, lt=100)
    adversarial: float = Field(0.0, ge=0, le=10)
    sample_weight: Literal["none", "recent", "volatility"] = "none"
    patience: int = Field(4, ge=1)
    smooth_epochs: int = Field(3, ge=1, le=100)
    seed: int = Field(20, ge=0, lt=2**31)
    stop_sessions: int = Field(252, ge=20)
    calibrate_sessions: int = Field(252, ge=20)
    refit: bool = True
    warm_start: bool = False
    device: Literal["auto", "cpu", "gpu"] = "auto"
    processes: int = Field(0, ge=0, le=1024)
    scheduler: str = Field("", pattern=SCHEDULER_PATTERN)
    worker_patience: int = Field(10, ge=1, le=1440)

    @property
    def used_device(self) -> Literal["cpu", "gpu"]:
        """Where networks are trained; auto means the processor."""
        return "gpu" if self.device == "gpu" else "cpu"
