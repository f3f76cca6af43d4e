"""A fitted ensemble for each symbol: forecast with and saved.

A row of a block is known only by its number: the caller that saves such a model stores the symbols' names, and
uses them to arrange the model for later blocks (`SymbolEnsemble.arranged`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.calibration.calibrator import Calibrator
from models.engine import keras
from models.ensembles.agreement import Agreement, banded, join_agreements
from models.ensembles.by_symbol import arrange_places, forecast_by_symbol, spread_over_rows
from models.ensembles.members import Members
from models.ensembles.model_files import PER_SYMBOL, SYMBOL_ARRAYS, write_metadata, writing
from models.networks.network import Network
from models.networks.recurrent import count_parameters
from models.prediction import Prediction
from models.scaling import Scaling
from models.training.trainer import Epoch, Training, Weights
from models.windows import check_panel, closed_up, first_session

__all__ = ["SymbolEnsemble", "SymbolMember"]


@dataclass(frozen=True)
class SymbolMember:
    """The fitted ensemble of one symbol.

    Attributes:
        scaling: Its input scale.
        weights: One list of arrays per member.
        calibrator: From the members' mean logit to p_up.
        base_rate: Share of ups among its training rows, [horizon].
        agreement: How closely its members agree on the calibration rows.
    """

    scaling: Scaling
    weights: list[Weights] = field(repr=False)
    calibrator: Calibrator
    base_rate: NDArray[np.float64]
    agreement: Agreement


@dataclass(frozen=True)
class SymbolEnsemble:
    """Fitted ensembles, one per symbol.

    Attributes:
        network: The architecture of each member.
        training: The training settings of each member.
        seeds: One per member, the same for every symbol.
        models: One per symbol that has a model.
        places: The index in `models` of each row of a block, -1 for none.
        left_out: Why a row of the fitted block has no model, by row number.
        history: The mean epochs of each member over the symbols that still trained.
        start: As for a pooled ensemble.
        learned_before, first_fit: As for a pooled ensemble.
        per_symbol: Whether each symbol has a model of its own; it has.
        explainable: Whether `models.explain` can inspect it; it cannot.
    """

    per_symbol: ClassVar[bool] = True
    explainable: ClassVar[bool] = False

    network: Network
    training: Training
    seeds: tuple[int, ...]
    models: tuple[SymbolMember, ...] = field(repr=False)
    places: tuple[int, ...]
    left_out: Mapping[int, str]
    history: list[Epoch] = field(repr=False)
    start: int | None
    learned_before: int
    first_fit: "SymbolEnsemble | None" = field(default=None, repr=False)

    @property
    def held_out(self) -> "SymbolEnsemble":
        """The ensembles of the first fit, which have not learned from the calibrate range; they may be these."""
        return self.first_fit or self

    @property
    def base_rate(self) -> NDArray[np.float64]:
        """Share of ups among the training rows, [symbol, horizon]; NaN for a symbol without a model."""
        return spread_over_rows([model.base_rate for model in self.models], self.places)

    @property
    def threshold(self) -> NDArray[np.float64]:
        """The least |p_up - 0.5| at which a direction is issued, [symbol, horizon]; NaN without a model."""
        return spread_over_rows(
            [np.array(model.calibrator.abstention.threshold) for model in self.models], self.places
        )

    @property
    def agreement(self) -> Agreement:
        """How closely the members of a symbol agree, on average."""
        return join_agreements([model.agreement for model in self.models])

    def first_session(self, row: int) -> int:
        """Return the first session that forecasts from session `row` on read, in the block of the fit."""
        return first_session(self.start, self.network.lookback, row)

    def may_start(self, train: range) -> bool:
        """Return whether a fit on the sessions `train` of the same block may start from these weights."""
        return self.learned_before <= train.stop

    def arranged(self, rows: Sequence[int]) -> "SymbolEnsemble":
        """Return the ensemble for blocks whose symbols are the rows `rows` of the fitted one, -1 for others."""
        first = self.first_fit and self.first_fit.arranged(rows)
        return replace(self, places=arrange_places(self.places, rows), first_fit=first)

    def predict(self, x: NDArray[np.float32], mask: NDArray[np.bool_]) -> Prediction:
        """Forecast every row with enough history of each symbol that has a model, as a pooled ensemble does.

        Raises:
            ModelError: if the shapes do not fit, or a valid row is not finite.
        """
        check_panel(x, mask, self.network.features)
        return forecast_by_symbol(self._forecast, self.places, x, mask, self.network.horizons)

    def save(self, directory: Path, extra: Mapping[str, Any] | None = None) -> None:
        """Write symbols.npz and model.json into a new folder, all or nothing.

        Args:
            directory: A folder that does not exist yet, or is empty.
            extra: JSON-ready metadata to keep with the model.

        Raises:
            ModelError: if the folder holds something already.
        """
        with writing(directory) as draft:
            np.savez(draft / SYMBOL_ARRAYS, allow_pickle=False, **self._arrays())
            write_metadata(draft, self._metadata(extra or {}))

    def _forecast(self, place: int, x: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return p_up, low and high of one symbol, [3, session, horizon]."""
        model = self.models[place]
        members = Members(self.network, model.scaling, model.weights)
        usable = members.usable(mask)
        logits = members.logits(x, mask, closed_up(usable))
        made = np.full((3, mask.shape[1], self.network.horizons), np.nan)
        for number, z in enumerate(banded(logits)):
            made[number, usable[0]] = model.calibrator.p_up(z)
        return made

    def _arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the scales [symbol, feature] and every weight [symbol, member, ...] by name."""
        by_place = zip(
            *(zip(*model.weights, strict=True) for model in self.models),
            strict=True,
        )
        scales = {
            name: np.array([getattr(model.scaling, name) for model in self.models])
            for name in ("mean", "variance")
        }
        return scales | {f"weight-{number}": np.array(stacked) for number, stacked in enumerate(by_place)}

    def _metadata(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "family": PER_SYMBOL,
            "network": self.network.to_json(),
            "parameters": count_parameters(self.network),
            "training": self.training.to_json(),
            "seeds": self.seeds,
            "places": self.places,
            "left_out": {str(row): reason for row, reason in self.left_out.items()},
            "calibrators": [model.calibrator.to_json() for model in self.models],
            "base_rates": [model.base_rate.tolist() for model in self.models],
            "agreements": [asdict(model.agreement) for model in self.models],
            "agreement": asdict(self.agreement),
            "keras": keras.version(),
            "tensorflow": tf.version.VERSION,
            "jit": True,
            "extra": dict(extra),
            "history": [asdict(epoch) for epoch in self.history],
        }
