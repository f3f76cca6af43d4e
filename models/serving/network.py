"""A trained network in NumPy: the logits of all members of an ensemble, and their gradients by the inputs."""

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from models.errors import ModelError
from models.networks.network import GATES, KERNEL, Network
from models.serving.layers import RECURRENT, Array, Backward, attend, convolve, then

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
        if network.kind == "linear":
            return self.members * (network.features + network.horizons)
        if network.kind == "tcn":
            return self.members * network.units * (2 * network.layers * len(network.dilations) + 4)
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
        scaled: Array = np.asarray(x, np.float64).swapaxes(0, 1)[:, None]
        if network.kind == "linear":
            return convolve(scaled, [*weights], relu=False)
        values, back = (
            _convolve_levels(network, scaled, weights)
            if network.kind == "tcn"
            else _recur(network, scaled, weights, keep=keep)
        )
        skip = [next(weights), np.zeros((self.members, network.horizons))] if network.linear_skip else []
        logits, back = then(_dense(values, [*weights]), back)
        if not skip:
            return logits, back
        mapped, back_skip = convolve(scaled, skip, relu=False)
        return logits + mapped, lambda by_output: back(by_output) + back_skip(by_output)


def _recur(
    network: Network, values: Array, weights: Iterator[Array], *, keep: bool
) -> tuple[Array, Backward]:
    """Return the states of a recurrent network and their backward pass to its inputs."""
    made: tuple[Array, Backward] = values, lambda by_output: by_output
    if network.convolution:
        made = then(convolve(made[0], _take(weights, 2)), made[1])
    for _ in range(network.layers):
        made = then(RECURRENT[network.kind](made[0], _take(weights, 3), keep=keep), made[1])
    if network.attention:
        made = then(attend(made[0], _take(weights, 3), network.lookback), made[1])
    return made


def _convolve_levels(network: Network, values: Array, weights: Iterator[Array]) -> tuple[Array, Backward]:
    """Return the states of a tcn and their backward pass to its inputs."""
    values, back = _dense(values, _take(weights, 2))
    for dilation in network.dilations:
        made: tuple[Array, Backward] = values, lambda by_output: by_output
        for _ in range(network.layers):
            made = then(convolve(made[0], _take(weights, 2), dilation=dilation), made[1])
        level, back_level = made
        values = values + level
        back = _residual(back_level, back)
    return values, back


def _residual(level: Backward, before: Backward) -> Backward:
    return lambda by_output: before(by_output + level(by_output))


def _dense(values: Array, weights: list[Array]) -> tuple[Array, Backward]:
    kernel, bias = weights
    return values @ kernel + bias[:, None], lambda by_output: by_output @ kernel.swapaxes(-1, -2)


def _take(weights: Iterator[Array], count: int) -> list[Array]:
    return [next(weights) for _ in range(count)]


@cache
def _one_thread() -> ThreadpoolController:
    """Return the control of BLAS' threads: for thousands of small products they only wait for each other."""
    return ThreadpoolController()


def weight_shapes(network: Network) -> list[tuple[int, ...]]:
    """Return the shapes of a member's weights, in the order of Keras: from the input to the logits."""
    units, width, shapes = network.units, network.features, list[tuple[int, ...]]()
    window = (network.lookback, network.features, network.horizons)
    if network.kind == "linear":
        return [window, (network.horizons,)]
    if network.kind == "tcn":
        levels = [(KERNEL, units, units), (units,)] * network.layers * len(network.dilations)
        skip = [window] * network.linear_skip
        return [(width, units), (units,), *levels, *skip, (units, network.horizons), (network.horizons,)]
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
    return [*shapes, *[window] * network.linear_skip, (width, network.horizons), (network.horizons,)]
