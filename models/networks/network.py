"""The description of a recurrent network, from which it is built, saved and read."""

from dataclasses import dataclass
from typing import Final, Literal

from models.errors import ModelError
from models.windows import Mode

__all__ = ["GATES", "Kind", "Network"]

Kind = Literal["rnn", "gru", "lstm"]

GATES: Final[dict[Kind, int]] = {"rnn": 1, "gru": 3, "lstm": 4}
"""Blocks of `units` columns in the weights of each kind's layer."""


@dataclass(frozen=True)
class Network:
    """Description of a network.

    Attributes:
        kind: rnn, gru or lstm.
        features: Columns of the input.
        lookback: windowed: sessions per window; sequence: sessions that a forecast must have read, at least.
        units: Width of each recurrent layer.
        layers: Number of stacked recurrent layers.
        horizons: Number of horizons, with one logit each.
        convolution: Sessions that the kernel of a causal convolution spans, before the recurrent layers; 0: none.
        attention: Whether the output layer also reads the weighted mean of the last `lookback` states.
        mode: windowed: many-to-one, [row, session, feature] in, the logits [row, horizon] of its last session out;
            sequence: many-to-many, the logits [row, session, horizon] of every session out.

    Raises:
        ModelError: the kind or the mode is unknown, or a size is below one.
    """

    kind: Kind
    features: int
    lookback: int
    units: int = 16
    layers: int = 1
    horizons: int = 1
    convolution: int = 0
    attention: bool = False
    mode: Mode = "windowed"

    def __post_init__(self) -> None:
        """Check the description."""
        if self.kind not in GATES:
            raise ModelError(
                f"unknown kind of network {self.kind!r}", fix=f"choose one of {', '.join(GATES)}"
            )
        if self.mode not in ("windowed", "sequence"):
            raise ModelError(f"unknown mode {self.mode!r}", fix="choose windowed or sequence")
        if min(self.features, self.lookback, self.units, self.layers, self.horizons) < 1:
            raise ModelError(f"every size of a network must be at least 1: {self}")
        if self.convolution < 0:
            raise ModelError(f"the convolution of a network must be 0 or more sessions: {self}")
