"""Keep TensorFlow on one thread: with several, the order of additions, and so rounding, depends on the machine.

Several processes side by side are the faster way to use a machine's cores (docs/training.md), and give the same weights
for any number of processes.
"""

from contextlib import suppress

import tensorflow as tf

from models.errors import ModelError

__all__ = ["check_one_thread", "use_one_thread"]


def use_one_thread() -> None:
    """Make TensorFlow compute on one thread in this process; no effect once TensorFlow has started."""
    with suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)


def check_one_thread() -> None:
    """Raise unless TensorFlow computes on one thread in this process.

    Raises:
        ModelError: TensorFlow had run in this process before nextday's models were imported.
    """
    if tf.config.threading.get_intra_op_parallelism_threads() != 1:
        raise ModelError(
            "TensorFlow runs on several threads in this process: weights trained here could differ between machines",
            fix="import nextday's models before TensorFlow runs for the first time",
        )
