"""Forecast with a saved ensemble: pooled, or one per symbol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.calibration.calibrator import Calibrator, read_calibrator
from models.ensembles.agreement import banded
from models.ensembles.by_symbol import arrange_places, forecast_by_symbol, spread_over_rows
from models.ensembles.model_files import METADATA, PER_SYMBOL, SYMBOL_ARRAYS, read_metadata
from models.errors import ModelError
from models.networks.network import Network
from models.prediction import Prediction, on_panel
from models.scaling import Scaling
from models.serving.network import ServedNetwork
from models.serving.panel import panel_logits
from models.serving.saved_files import read_arrays, read_members
from models.windows import check_panel, closed_up, first_session, usable_rows

__all__ = ["ServedEnsemble", "ServedSymbolEnsemble", "load"]


@dataclass(frozen=True)
class ServedEnsemble:
    """A saved ensemble, ready to forecast.

    Attributes:
        network: The architecture of each member.
        scaling: Its input scale.
        members: The members' weights in that network.
        calibrator: Maps the members' mean logit to p_up and to a direction.
        base_rate: Share of ups among the training rows, [horizon].
        extra: What the caller saved with the model.
        per_symbol: Whether each symbol has a model of its own; it has not.
        explainable: Whether `models.explain` can attribute its forecasts; it can.
        left_out: Why a row of the fitted block has no model; always empty.
    """

    per_symbol: ClassVar[bool] = False
    explainable: ClassVar[bool] = True
    left_out: ClassVar[Mapping[int, str]] = {}

    network: Network
    scaling: Scaling
    members: ServedNetwork = field(repr=False)
    calibrator: Calibrator
    base_rate: NDArray[np.float64]
    extra: Mapping[str, Any] = field(repr=False)

    @property
    def threshold(self) -> NDArray[np.float64]:
        """The least |p_up - 0.5| at which a direction is issued, [horizon]."""
        return np.array(self.calibrator.abstention.threshold)

    def arranged(self, rows: Sequence[int]) -> "ServedEnsemble":
        """Return the ensemble for blocks whose symbols are the rows `rows` of the fitted one: itself, it is pooled."""
        return self

    def first_session(self, row: int) -> int:
        """Return the first session that forecasts from session `row` on read, in a block that begins at the start."""
        return first_session(_start(self.network), self.network.lookback, row)

    def logits(
        self, x: NDArray[np.float32], mask: NDArray[np.bool_], rows: NDArray[np.int32]
    ) -> NDArray[np.float64]:
        """Return the logits [member, row, horizon] of the usable rows of unscaled x with the flat numbers `rows`."""
        return panel_logits(self.members, self.scaling.apply(x), mask, rows)

    def predict(self, x: NDArray[np.float32], mask: NDArray[np.bool_]) -> Prediction:
        """Forecast every row that has a full valid window, or in sequence mode `lookback` valid sessions behind it.

        Args:
            x: Unscaled features, float32 [symbol, session, feature]; in sequence mode from the model's start on.
            mask: [symbol, session], true where the row is valid.

        Returns:
            p_up, low and high, float64 [symbol, session, horizon]: the calibrated probability at the members'
            mean logit, and at that mean -+ BAND standard deviations of the members' logits.

        Raises:
            ModelError: if the shapes do not fit, or a valid row is not finite.
        """
        check_panel(x, mask, self.network.features)
        usable = usable_rows(mask, self.network.lookback, self.network.mode)
        logits = self.logits(x, mask, closed_up(usable))
        return Prediction(*(on_panel(self.calibrator.p_up(z), usable) for z in banded(logits)))


@dataclass(frozen=True)
class ServedSymbolEnsemble:
    """Saved ensembles, one per symbol, ready to forecast.

    Attributes:
        network: The architecture of each member.
        models: One per symbol that has a model.
        places: The index in `models` of each row of a block, -1 for none.
        left_out: Why a row of the fitted block has no model, by row number.
        extra: What the caller saved with the model.
        per_symbol: Whether each symbol has a model of its own; it has.
        explainable: Whether `models.explain` can attribute its forecasts; it cannot.
    """

    per_symbol: ClassVar[bool] = True
    explainable: ClassVar[bool] = False

    network: Network
    models: tuple[ServedEnsemble, ...] = field(repr=False)
    places: tuple[int, ...]
    left_out: Mapping[int, str]
    extra: Mapping[str, Any] = field(repr=False)

    @property
    def base_rate(self) -> NDArray[np.float64]:
        """Share of ups among the training rows, [symbol, horizon]; NaN for a symbol without a model."""
        return spread_over_rows([model.base_rate for model in self.models], self.places)

    @property
    def threshold(self) -> NDArray[np.float64]:
        """The least |p_up - 0.5| at which a direction is issued, [symbol, horizon]; NaN without a model."""
        return spread_over_rows([model.threshold for model in self.models], self.places)

    def arranged(self, rows: Sequence[int]) -> "ServedSymbolEnsemble":
        """Return the ensemble for blocks whose symbols are the rows `rows` of the fitted one, -1 for others."""
        return replace(self, places=arrange_places(self.places, rows))

    def first_session(self, row: int) -> int:
        """Return the first session that forecasts from session `row` on read, in a block that begins at the start."""
        return first_session(_start(self.network), self.network.lookback, row)

    def predict(self, x: NDArray[np.float32], mask: NDArray[np.bool_]) -> Prediction:
        """Forecast every row with enough history of each symbol that has a model, as a pooled ensemble does.

        Raises:
            ModelError: if the shapes do not fit, or a valid row is not finite.
        """
        check_panel(x, mask, self.network.features)
        return forecast_by_symbol(self._forecast, self.places, x, mask, self.network.horizons)

    def _forecast(self, place: int, x: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        own = self.models[place].predict(x, mask)
        return np.stack([own.p_up[0], own.low[0], own.high[0]])


def load(directory: Path, metadata: Mapping[str, Any] | None = None) -> ServedEnsemble | ServedSymbolEnsemble:
    """Return the ensemble that is saved in a folder; no code in its files is ever run.

    Args:
        directory: The model's folder.
        metadata: Its metadata, if the files are verified already; else they are verified here.

    Raises:
        ModelError: naming the file that is missing, damaged or refused.
    """
    metadata = read_metadata(directory) if metadata is None else metadata
    try:
        network, count = Network(**metadata["network"]), len(metadata["seeds"])
        if metadata["family"] == PER_SYMBOL:
            return _load_per_symbol(directory, metadata, network, count)
        scaling, weights = read_members(directory, network, count)
        return ServedEnsemble(
            network=network,
            scaling=scaling,
            members=ServedNetwork(network, weights),
            calibrator=read_calibrator(metadata["calibrator"]),
            base_rate=np.array(metadata["base_rate"]),
            extra=metadata["extra"],
        )
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as broken:
        raise ModelError(
            f"this is no description of an ensemble: {broken!r}",
            where=str(directory / METADATA),
            fix="load it with the version of nextday that saved it, or train again",
        ) from None


def _load_per_symbol(
    directory: Path, metadata: Mapping[str, Any], network: Network, count: int
) -> ServedSymbolEnsemble:
    arrays = read_arrays(directory / SYMBOL_ARRAYS)
    stacked = [arrays[f"weight-{number}"] for number in range(len(arrays) - 2)]
    models = tuple(
        ServedEnsemble(
            network=network,
            scaling=Scaling(arrays["mean"][place], arrays["variance"][place]),
            members=ServedNetwork(
                network, [[array[place, member] for array in stacked] for member in range(count)]
            ),
            calibrator=read_calibrator(calibrator),
            base_rate=np.array(metadata["base_rates"][place]),
            extra={},
        )
        for place, calibrator in enumerate(metadata["calibrators"])
    )
    return ServedSymbolEnsemble(
        network=network,
        models=models,
        places=tuple(metadata["places"]),
        left_out={int(row): reason for row, reason in metadata["left_out"].items()},
        extra=metadata["extra"],
    )


def _start(network: Network) -> int | None:
    """Return the first session of a block for a loaded model: in sequence mode the block begins at its start."""
    return 0 if network.mode == "sequence" else None
