"""TensorFlow on one thread: several would add numbers up in an order of the machine's own, and so would its cores.

Processes side by side are the faster way to use the cores of a machine (docs/training.md), and give the same weights
on any number of them.
"""

from contextlib import suppress

import tensorflow as tf

from models.errors import ModelError

__all__ = ["check_one_thread", "use_one_thread"]


def use_one_thread() -> None:
    """Let TensorFlow compute on one thread in this process; where it runs already, everything stays as it is."""
    with suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)


def check_one_thread() -> None:
    """Raise unless TensorFlow computes on one thread here.

    Raises:
        ModelError: it had run in this process before nextday's models were imported.
    """
    if tf.config.threading.get_intra_op_parallelism_threads() != 1:
        raise ModelError(
            "TensorFlow runs on several threads in this process: what is trained here could differ from machine to "
            "machine",
            fix="import nextday's models before TensorFlow runs for the first time",
        )
