"""Where a network is trained: on the processor, or on a GPU.

GPUs are hidden in every process (models.engine) until a training asks for one. A process that has computed already
cannot show them any more, so trainings on a GPU get a process of their own: see flows.training.compute.
"""

from contextlib import AbstractContextManager
from typing import Any, Final, Literal

import tensorflow as tf

from models.errors import ModelError

__all__ = ["Device", "find_gpus", "on_device"]

Device = Literal["cpu", "gpu"]

_NAMES: Final = {"cpu": "/CPU:0", "gpu": "/GPU:0"}


def find_gpus() -> list[Any]:
    """Return the GPUs that TensorFlow can use on this machine; nothing is computed, and no memory of them is taken."""
    return list(tf.config.list_physical_devices("GPU"))


def on_device(device: Device) -> AbstractContextManager[Any]:
    """Return a context in which TensorFlow computes on the processor or on the first GPU, in this process.

    Raises:
        ModelError: there is no GPU, or this process has computed without one already.
    """
    if device == "gpu":
        _show_first_gpu()
    place: AbstractContextManager[Any] = tf.device(_NAMES[device])
    return place


def _show_first_gpu() -> None:
    """Let TensorFlow use the first GPU, with full float32 and a fixed order of additions."""
    gpus = find_gpus()
    if not gpus:
        raise ModelError(
            "TensorFlow finds no GPU",
            where='[training] device = "gpu"',
            fix='install the GPU\'s driver and TensorFlow with CUDA, or set device = "cpu"',
        )
    # Its short form, ten bits of mantissa, is the default on newer GPUs.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    tf.config.experimental.enable_op_determinism()
    if tf.config.get_visible_devices("GPU"):
        return
    try:
        tf.config.experimental.set_memory_growth(gpus[0], True)
        tf.config.set_visible_devices(gpus[:1], "GPU")
    except RuntimeError:
        raise ModelError(
            "This process has computed on the processor already, and cannot change to a GPU",
            where='[training] device = "gpu"',
            fix="train in a new process; a Dask worker that has trained on the processor has to be started again",
        ) from None
