"""The search space: the settings that define the network and its training.

A learning rate has two digits, so that the lines to paste are exactly the settings that were tried. The number of
members affects the spread of the forecasts, not their mean: a search trains a few, and leaves the setting unchanged.
"""

from collections.abc import Mapping
from typing import Any, Final

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
)

from pipeline.config import Config
from pipeline.model_config import RECURRENT
from pipeline.tracking.trials import Parameters, list_parameters

__all__ = [
    "SPACE",
    "configured_parameters",
    "longest_lookback",
    "round_parameters",
    "space_around",
    "with_parameters",
]

SPACE: Final[Mapping[str, BaseDistribution]] = {
    "model.kind": CategoricalDistribution(("gru", "lstm", "rnn")),
    "model.units": CategoricalDistribution((8, 16, 32, 64)),
    "model.layers": CategoricalDistribution((1, 2)),
    "model.lookback": CategoricalDistribution((10, 20, 40, 60)),
    "model.convolution": CategoricalDistribution((0, 3, 5)),
    "model.attention": CategoricalDistribution((False, True)),
    "training.mode": CategoricalDistribution(("windowed", "sequence")),
    "training.batch_size": CategoricalDistribution((64, 128, 256, 512)),
    "training.learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
}
"""Every setting that a search may change, with its distribution."""


def configured_parameters(config: Config) -> Parameters:
    """Return the configured value of each setting of the space."""
    parameters = list_parameters(config)
    return {setting: parameters[setting] for setting in SPACE}


def space_around(config: Config) -> dict[str, BaseDistribution]:
    """Return the space, extended to include the configured settings: they are the first trial.

    Lookbacks that leave no room for labels in a chunk of sequence mode are left out.
    """
    configured, chunk = configured_parameters(config), config.training.chunk
    space = {setting: _extended(SPACE[setting], value) for setting, value in configured.items()}
    if config.model.lookback >= chunk:
        space["training.mode"] = CategoricalDistribution((config.training.mode,))
        return space
    lookbacks = [each for each in _choices(space["model.lookback"]) if each < chunk]
    return space | {"model.lookback": CategoricalDistribution(lookbacks)}


def longest_lookback(config: Config) -> int:
    """Return the longest lookback of the space: trials are compared on rows that all of them forecast."""
    return int(max(_choices(space_around(config)["model.lookback"])))


def round_parameters(parameters: Mapping[str, Any], space: Mapping[str, BaseDistribution]) -> Parameters:
    """Return the parameters with numbers rounded to two digits, within the bounds of the space."""
    return {setting: _rounded(value, space[setting]) for setting, value in parameters.items()}


def _rounded(value: Any, distribution: BaseDistribution) -> Any:
    if not isinstance(distribution, FloatDistribution):
        return value
    return min(max(float(f"{value:.2g}"), distribution.low), distribution.high)


def with_parameters(config: Config, parameters: Parameters, members: int | None = None) -> Config:
    """Return the settings with these parameters; a kind without recurrence has no convolution and no attention.

    Args:
        config: The settings.
        parameters: Values by setting, e.g. "model.units".
        members: How many to train; default: as configured.
    """
    sections = config.model_dump(mode="python")
    for setting, value in parameters.items():
        section, _, name = setting.partition(".")
        sections[section][name] = value
    if sections["model"]["kind"] not in RECURRENT:
        sections["model"] |= {"convolution": 0, "attention": False}
    if members is not None:
        sections["model"]["members"] = members
    return Config.model_validate(sections)


def _extended(distribution: BaseDistribution, value: Any) -> BaseDistribution:
    if isinstance(distribution, FloatDistribution):
        return FloatDistribution(
            min(distribution.low, value), max(distribution.high, value), log=distribution.log
        )
    choices = _choices(distribution)
    return CategoricalDistribution(choices if value in choices else (*choices, value))


def _choices(distribution: BaseDistribution) -> tuple[Any, ...]:
    assert isinstance(distribution, CategoricalDistribution)
    return tuple(distribution.choices)
