"""Training on a GPU: a second logical processor stands in for it, for its numbers and its place."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.devices import on_device
from models.errors import ModelError
from models.training.trainer import Training
from tests.conftest import PROJECT

FAKE = """
import json, sys
import tensorflow as tf
from models.engine import keras
from models import devices

config, calls = tf.config, []
(processor,) = config.list_physical_devices("CPU")
config.set_logical_device_configuration(processor, [config.LogicalDeviceConfiguration()] * 2)
listed, set_visible = config.list_physical_devices, config.set_visible_devices
config.list_physical_devices = lambda kind=None: ["first", "second"] if kind == "GPU" else listed(kind)
config.experimental.set_memory_growth = lambda gpu, grows: calls.append(["grows", gpu, grows])
config.set_visible_devices = lambda shown, kind: calls.append(["shown", shown, kind])
devices._NAMES["gpu"] = "/CPU:1"
"""

TRAIN = """
import numpy as np
from models.networks.network import Network
from models.training import jobs
from models.training.trainer import Training
from tests.models.networks.test_bptt_layers import examples

found = {}
for kind, mode in (("gru", "windowed"), ("lstm", "sequence"), ("rnn", "sequence"), ("tcn", "windowed")):
    network = Network(kind, features=4, lookback=6, units=5, mode=mode)
    weights = {}
    for device in ("gpu", "cpu"):
        training = Training(epochs=2, batch_size=16, chunk=12, learning_rate=1e-3, device=device)
        (run,) = jobs.submit_all([examples(network)], [jobs.Job(network, training, 1, 1, 1)]).result()
        with devices.on_device(device):
            graphs = jobs._graphs(network, training.chunk_of(network), 1.0, training.regularization, device)
        weights[device] = run.weights
        layer = next((each for each in graphs.core.layers if each.name == "recurrent_1"), None)
        found[f"{kind} {device}"] = [
            graphs.core.trainable_variables[0].value.device[-5:], layer and type(layer).__module__.split(".")[0],
        ]
    found[f"{kind} apart"] = max(float(np.abs(a - b).max()) for a, b in zip(weights["cpu"], weights["gpu"]))
found["calls"], found["tf32"] = calls[:2], config.experimental.tensor_float_32_execution_enabled()
print(json.dumps(found))
"""

TOO_LATE = """
def refuse(*given):
    raise RuntimeError("cannot be modified once initialized")
config.set_visible_devices = refuse
from models.errors import ModelError
try:
    devices.on_device("gpu")
except ModelError as error:
    print(json.dumps(error.what))
"""


def run(code: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", FAKE + code],
        env={**os.environ, "PYTHONPATH": str(PROJECT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(PROJECT),
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.own_process
def test_a_network_learns_the_same_on_a_gpu_with_the_layers_that_win_there() -> None:
    found = run(TRAIN)
    for kind in ("gru", "lstm", "rnn", "tcn"):
        assert found[f"{kind} apart"] < 1e-5
        assert (found[f"{kind} cpu"][0], found[f"{kind} gpu"][0]) == ("CPU:0", "CPU:1")
    assert found["gru gpu"][1] == found["lstm gpu"][1] == "keras"  # a call of cuDNN
    assert found["gru cpu"][1] == found["lstm cpu"][1] == "models"
    assert found["rnn gpu"][1] == found["rnn cpu"][1] == "models"
    assert found["calls"] == [["grows", "first", True], ["shown", ["first"], "GPU"]]
    assert found["tf32"] is False


@pytest.mark.slow
@pytest.mark.own_process
def test_a_process_that_has_computed_cannot_change_to_a_gpu() -> None:
    assert run(TOO_LATE) == "This process has computed on the processor already, and cannot change to a GPU"


def test_without_a_gpu_training_on_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.devices.find_gpus", list)
    with pytest.raises(ModelError, match="TensorFlow finds no GPU"):
        on_device("gpu")


def test_a_model_names_a_gpu_and_leaves_the_processor_out_as_before() -> None:
    assert Training(device="gpu").to_json()["device"] == "gpu"
    assert "device" not in Training().to_json()
