"""The description of a network, from which it is built, saved and read."""

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from models.errors import ModelError
from models.windows import Mode

__all__ = ["GATES", "KERNEL", "Kind", "Network"]

Kind = Literal["rnn", "gru", "lstm", "linear", "tcn"]

GATES: Final[dict[Kind, int]] = {"rnn": 1, "gru": 3, "lstm": 4}
"""Blocks of `units` columns in the weights of each recurrent kind's layer."""

KERNEL: Final = 2
"""Sessions that a convolution of a tcn spans, `dilation` apart."""

_KINDS: Final = (*GATES, "linear", "tcn")


@dataclass(frozen=True)
class Network:
    """Description of a network.

    Attributes:
        kind: rnn, gru or lstm; linear: one weight for each feature and session of the window; tcn: residual levels of
            causal convolutions with growing dilation.
        features: Columns of the input.
        lookback: windowed: sessions per window; sequence: sessions that a forecast must have read, at least.
        units: Width of each recurrent layer, or of a tcn; a linear map has none.
        layers: Number of stacked recurrent layers, or of convolutions in each level of a tcn.
        horizons: Number of horizons, with one logit each.
        convolution: Sessions that the kernel of a causal convolution spans, before the recurrent layers; 0: none.
        attention: Whether the output layer also reads the weighted mean of the last `lookback` states.
        linear_skip: Whether a linear map of the last `lookback` sessions is added to the logits.
        mode: windowed: many-to-one, [row, session, feature] in, the logits [row, horizon] of its last session out;
            sequence: many-to-many, the logits [row, session, horizon] of every session out.

    Raises:
        ModelError: the kind or the mode is unknown, a size is below one, or the kind has no such part.
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
    linear_skip: bool = False

    @property
    def dilations(self) -> tuple[int, ...]:
        """The dilation of each level of a tcn: as many as it takes to read `lookback` sessions."""
        levels = 1
        while 1 + self.layers * (KERNEL - 1) * (2**levels - 1) < self.lookback:
            levels += 1
        return tuple(2**level for level in range(levels))

    def to_json(self) -> dict[str, Any]:
        """Return the description as it is saved; a part that earlier versions lack is left out where it is absent."""
        described = asdict(self)
        if not self.linear_skip:
            del described["linear_skip"]
        return described

    def __post_init__(self) -> None:
        """Check the description."""
        if self.kind not in _KINDS:
            raise ModelError(
                f"unknown kind of network {self.kind!r}", fix=f"choose one of {', '.join(_KINDS)}"
            )
        if self.kind not in GATES and (self.convolution or self.attention):
            raise ModelError(f"convolution and attention belong to recurrent networks: {self}")
        if self.kind == "linear" and self.linear_skip:
            raise ModelError(f"a linear map needs no linear skip: {self}")
        if self.mode not in ("windowed", "sequence"):
            raise ModelError(f"unknown mode {self.mode!r}", fix="choose windowed or sequence")
        if min(self.features, self.lookback, self.units, self.layers, self.horizons) < 1:
            raise ModelError(f"every size of a network must be at least 1: {self}")
        if self.convolution < 0:
            raise ModelError(f"the convolution of a network must be 0 or more sessions: {self}")
