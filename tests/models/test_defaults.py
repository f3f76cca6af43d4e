"""A model built in Python without settings is the one that an empty nextday.toml trains."""

from dataclasses import MISSING, Field, fields
from typing import Any

import pytest
from pydantic import BaseModel

from models.calibration.calibrator import Calibration
from models.ensembles.pooled import RecurrentModel
from models.networks.network import Network
from models.training.trainer import Training
from pipeline.config import CalibrationConfig, ModelConfig, TrainingConfig

pytestmark = pytest.mark.slow  # its imports bring TensorFlow

SHARED = {
    (Network, ModelConfig): {"units", "layers", "convolution", "attention", "linear_skip"},
    (Network, TrainingConfig): {"mode"},
    (Training, TrainingConfig): {field.name for field in fields(Training)},
    (RecurrentModel, ModelConfig): {"members"},
    (Calibration, CalibrationConfig): {"method", "coverage"},
}


def defaults(kind: Any) -> dict[str, Any]:
    """Return the default of each field of a dataclass that has one."""
    every: tuple[Field[Any], ...] = fields(kind)
    return {field.name: field.default for field in every if field.default is not MISSING}


@pytest.mark.parametrize(("kind", "section"), SHARED, ids=str)
def test_the_models_defaults_are_those_of_the_settings(kind: Any, section: type[BaseModel]) -> None:
    ours = defaults(kind)
    settings = {name: field.default for name, field in section.model_fields.items() if name in ours}
    assert settings.keys() == SHARED[kind, section]
    if "device" in settings:
        settings["device"] = TrainingConfig().used_device  # of "auto"
    assert {name: ours[name] for name in settings} == settings
