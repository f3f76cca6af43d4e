"""A trained network in NumPy: the logits of all members of an ensemble, and their gradients by the inputs."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from models.errors import ModelError
from models.networks.network import GATES, Network
from models.serving.layers import RECURRENT, Array, Backward, attend, convolve

__all__ = ["ServedNetwork", "weight_shapes"]


class ServedNetwork:
    """One network with the weights of each member: scaled inputs in, logits out, as Keras computes them.

    Keras computes in float32 and this in float64: logits agree within about 1e-6.

    Args:
        network: What it is.
        weights: One list of arrays per member, in the order of Keras' weights (see `weight_shapes`).

    Raises:
        ModelError: the arrays are not those of this network.
    """

    def __init__(self, network: Network, weights: Sequence[Sequence[NDArray[np.floating]]]) -> None:
        shapes = weight_shapes(network)
        for member in weights:
            if [array.shape for array in member] != shapes:
                raise ModelError(
                    f"the weights have shapes {[array.shape for array in member]}; this network's are {shapes}"
                )
        self.network = network
        self._weights = [np.stack(arrays).astype(np.float64) for arrays in zip(*weights, strict=True)]

    @property
    def members(self) -> int:
        """Number of members."""
        return len(self._weights[0])

    @property
    def numbers_per_session(self) -> int:
        """States and gates that a run holds per row and session, about."""
        network = self.network
        return self.members * network.units * (network.layers * (2 * GATES[network.kind] + 2) + 4)

    def logits(self, x: NDArray[np.floating]) -> Array:
        """Return the logits [member, row, horizon] of the last session of x [row, session, feature].

        In sequence mode there is one at every session: [member, row, session, horizon].
        """
        with _one_thread().limit(limits=1, user_api="blas"):
            logits, _ = self._run(x, keep=False)
        if self.network.mode == "windowed":
            return np.asarray(logits[-1])
        return logits.transpose(1, 2, 0, 3)

    def gradients(self, x: NDArray[np.floating]) -> Array:
        """Return the gradients of the members' mean logit of the last session by the inputs.

        Args:
            x: Scaled inputs [row, session, feature].

        Returns:
            [row, session, feature, horizon].
        """
        with _one_thread().limit(limits=1, user_api="blas"):
            logits, backward = self._run(x, keep=True)
            gradients = []
            for horizon in range(self.network.horizons):
                by_logit = np.zeros(logits.shape)
                by_logit[-1, ..., horizon] = 1 / self.members
                gradients.append(backward(by_logit).sum(axis=1).swapaxes(0, 1))
        return np.stack(gradients, axis=-1)

    def _run(self, x: NDArray[np.floating], *, keep: bool) -> tuple[Array, Backward]:
        """Return the logits [session, member, row, horizon] and the backward pass to the inputs."""
        network, weights = self.network, iter(self._weights)
        values: Array = np.asarray(x, np.float64).swapaxes(0, 1)[:, None]
        passes: list[Backward] = []
        if network.convolution:
            values, back = convolve(values, [next(weights), next(weights)])
            passes.append(back)
        for _ in range(network.layers):
            values, back = RECURRENT[network.kind](
                values, [next(weights), next(weights), next(weights)], keep=keep
            )
            passes.append(back)
        if network.attention:
            values, back = attend(values, [next(weights), next(weights), next(weights)], network.lookback)
            passes.append(back)
        kernel, bias = weights

        def backward(by_output: Array) -> Array:
            by = by_output @ kernel.swapaxes(-1, -2)
            for back in reversed(passes):
                by = back(by)
            return by

        return values @ kernel + bias[:, None], backward


@cache
def _one_thread() -> ThreadpoolController:
    """Return the control of BLAS' threads: for thousands of small products they only wait for each other."""
    return ThreadpoolController()


def weight_shapes(network: Network) -> list[tuple[int, ...]]:
    """Return the shapes of a member's weights, in the order of Keras: from the input to the logits."""
    units, width, shapes = network.units, network.features, list[tuple[int, ...]]()
    if network.convolution:
        shapes += [(network.convolution, width, units), (units,)]
        width = units
    gates = GATES[network.kind]
    for _ in range(network.layers):
        bias = (2, gates * units) if network.kind == "gru" else (gates * units,)
        shapes += [(width, gates * units), (units, gates * units), bias]
        width = units
    if network.attention:
        shapes += [(units, units), (units,), (units, 1)]
        width = 2 * units
    return [*shapes, (width, network.horizons), (network.horizons,)]
