"""Keras computes as nextday's networks need it, whatever the environment and keras.json say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT

pytestmark = [pytest.mark.slow, pytest.mark.own_process]


def run(folder: Path, code: str, **variables: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KERAS_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=kept | {"PYTHONPATH": str(PROJECT), "HOME": str(folder), "TF_CPP_MIN_LOG_LEVEL": "3"} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


SAY = """
from models.engine import keras
import os
c = keras.config
print(c.backend(), c.floatx(), c.image_data_format(), c.epsilon(), c.max_epochs(), os.environ.get("KERAS_BACKEND"))
"""


@pytest.mark.parametrize(
    ("settings", "variables"),
    [
        (
            {"floatx": "float64", "backend": "jax", "image_data_format": "channels_first", "epsilon": 0.1},
            {"KERAS_BACKEND": "torch", "KERAS_MAX_EPOCHS": "1"},
        ),
        (
            {"floatx": "float8"},
            {"KERAS_BACKEND": "none", "KERAS_MAX_EPOCHS": "few"},
        ),  # Keras itself would fail
    ],
)
def test_the_environment_and_keras_json_of_another_project_change_nothing(
    tmp_path: Path, settings: dict[str, object], variables: dict[str, str]
) -> None:
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps(settings))
    said = run(tmp_path, SAY, **variables)
    assert said == f"tensorflow float32 channels_last 1e-07 None {variables['KERAS_BACKEND']}\n"
    assert [path.name for path in (tmp_path / ".keras").iterdir()] == ["keras.json"]


def test_gpus_are_hidden_and_keras_on_something_else_is_refused(tmp_path: Path) -> None:
    code = """
import keras, tensorflow
tensorflow.config.set_visible_devices = lambda devices, kind: print("shown:", devices, kind)
keras.config.backend = lambda: "jax"
from models.errors import ModelError
try:
    import models.engine
except ModelError as error:
    print(error)
"""
    said = run(tmp_path, code)
    assert "shown: [] GPU" in said  # before anything else: TensorFlow must never take a GPU's memory
    assert "Keras runs on jax in this process" in said
    assert "KERAS_BACKEND=tensorflow" in said
