"""Keras on TensorFlow, in single precision, whatever the environment and ~/.keras/keras.json say.

Both are often another project's: a network is built of TensorFlow's operations in float32, and a limit on epochs from
the environment would end its training early. Modules import `keras` from here.
"""

import os
import tempfile
from contextlib import suppress
from importlib import import_module
from typing import Any, Final

from models.errors import ModelError

__all__ = ["keras"]

_VARIABLES: Final = "KERAS_"


def _import_keras() -> Any:
    """Import Keras, without reading or making ~/.keras.

    Raises:
        ModelError: other code in this process has imported Keras with another backend.
    """
    others = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith(_VARIABLES)}
    try:
        with tempfile.TemporaryDirectory() as empty:
            os.environ |= {"KERAS_HOME": empty, "KERAS_BACKEND": "tensorflow"}
            found: Any = import_module("keras")
    finally:
        for name in ("KERAS_HOME", "KERAS_BACKEND"):
            os.environ.pop(name, None)
        os.environ |= others
    _hide_gpus()
    config = found.config
    if config.backend() != "tensorflow":
        raise ModelError(
            f"Keras runs on {config.backend()} in this process, and nextday's networks need TensorFlow",
            where="KERAS_BACKEND, or keras.json in ~/.keras, when custom code imported Keras",
            fix="unset it, or set KERAS_BACKEND=tensorflow",
        )
    config.set_floatx("float32")
    config.set_epsilon(1e-7)
    config.set_image_data_format("channels_last")
    return found


def _hide_gpus() -> None:
    """Keep TensorFlow off GPUs, of which it would take nearly all memory; a training may show one (models.devices)."""
    with suppress(RuntimeError):  # TensorFlow has started already: what it took, other code has asked for
        import_module("tensorflow").config.set_visible_devices([], "GPU")


keras: Any = _import_keras()
