"""Seed ensembles of a user's own model: trained, calibrated, saved and forecast with as the networks are.

The user's code receives only what it may learn from; its calibration, its band and the rows to forecast are
decided here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from models.calibration.calibrator import (
    Calibration,
    Calibrator,
    fit_calibrator,
    read_calibrator,
    uncalibrated,
)
from models.ensembles.agreement import Agreement, banded, measure_agreement
from models.ensembles.kept_fits import KeptFits
from models.ensembles.model_files import METADATA, read_metadata, write_metadata, writing
from models.errors import ModelError
from models.prediction import Prediction, on_panel
from models.training.futures import DeferredFuture
from models.windows import check_panel, first_session, labelled_rows, share_of_ups, usable_rows

__all__ = [
    "FAMILY",
    "CustomEnsemble",
    "CustomModel",
    "Trained",
    "UserFit",
    "UserModel",
    "load",
]

FAMILY: Final = "own"
"""The `family` in the metadata of such a model."""

_CERTAIN: Final = 0.999
"""Probabilities are clipped to [1 - _CERTAIN, _CERTAIN]: the logit of 0 or 1 is infinite."""


class UserFit(Protocol):
    """A member: the user's model, fitted."""

    def predict(
        self, x: NDArray[np.float32], mask: NDArray[np.bool_], rows: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Return p_up [row, horizon] of the rows that are true in `rows` [symbol, session]."""
        ...

    def save(self, directory: Path) -> None:
        """Write files into an empty folder."""
        ...


class UserModel(Protocol):
    """The interface that the user's model implements."""

    def fit(
        self,
        x: NDArray[np.float32],
        mask: NDArray[np.bool_],
        y: NDArray[np.float32],
        *,
        train: range,
        stop: range,
        seed: int,
    ) -> UserFit:
        """Learn; equal seeds give equal fits."""
        ...

    def load(self, directory: Path, horizons: int) -> UserFit:
        """Return what was saved in a folder."""
        ...


@dataclass(frozen=True)
class Trained:
    """Progress: the number of the member that was just trained, and how many there are."""

    member: int
    members: int


@dataclass(frozen=True)
class CustomEnsemble:
    """A fitted ensemble of the user's model.

    Attributes:
        fits: The members.
        lookback: Sessions that a row needs, itself included.
        features: Columns of x.
        seeds: One per member.
        calibrator: Maps the members' mean logit to p_up and to a direction.
        base_rate: Share of ups among the training rows, [horizon].
        agreement: How closely the members agree on the calibration rows.
        extra: What the caller saved with the model.
        history, left_out: Always empty: no epochs are known, and every symbol is forecast.
        start: Always None: a forecast reads `lookback` sessions.
        per_symbol, explainable: Always false.
    """

    history: ClassVar[Sequence[Any]] = ()
    left_out: ClassVar[Mapping[int, str]] = {}
    start: ClassVar[int | None] = None
    per_symbol: ClassVar[bool] = False
    explainable: ClassVar[bool] = False

    fits: tuple[UserFit, ...] = field(repr=False)
    lookback: int
    features: int
    seeds: tuple[int, ...]
    calibrator: Calibrator
    base_rate: NDArray[np.float64]
    agreement: Agreement
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def held_out(self) -> "CustomEnsemble":
        """This ensemble: it has not learned from the calibrate range."""
        return self

    def may_start(self, train: range) -> bool:
        """Return whether another fit may start from this one: never, a user's model is fitted from the beginning."""
        return False

    def arranged(self, rows: Sequence[int]) -> "CustomEnsemble":
        """Return the ensemble for blocks whose symbols are the rows `rows` of the fitted one: itself, it is pooled."""
        return self

    def first_session(self, row: int) -> int:
        """Return the first session that forecasts from session `row` on read, in the block of the fit."""
        return first_session(None, self.lookback, row)

    @property
    def threshold(self) -> NDArray[np.float64]:
        """The least |p_up - 0.5| at which a direction is issued, [horizon]."""
        return np.array(self.calibrator.abstention.threshold)

    def predict(self, x: NDArray[np.float32], mask: NDArray[np.bool_]) -> Prediction:
        """Forecast every row that ends a window of `lookback` valid sessions.

        Args:
            x: Features, float32 [symbol, session, feature].
            mask: [symbol, session], true where the row is valid.

        Returns:
            p_up, low and high, float64 [symbol, session, horizon], as of the networks.

        Raises:
            ModelError: if the shapes do not fit, or a valid row is not finite.
        """
        check_panel(x, mask, self.features)
        usable = usable_rows(mask, self.lookback, "windowed")
        logits = _logits(self.fits, x, mask, usable)
        return Prediction(*(on_panel(self.calibrator.p_up(z), usable) for z in banded(logits)))

    def save(self, directory: Path, extra: Mapping[str, Any] | None = None) -> None:
        """Write a folder member-<k> for each member, and model.json, into a new folder, all or nothing.

        Args:
            directory: A folder that does not exist yet, or is empty.
            extra: JSON-ready metadata to keep with the model; by default what it was loaded with.

        Raises:
            ModelError: if the folder holds something already.
        """
        with writing(directory) as draft:
            for number, fit in enumerate(self.fits, start=1):
                folder = draft / _folder(number)
                folder.mkdir()
                fit.save(folder)
            write_metadata(draft, self._metadata(self.extra if extra is None else extra))

    def _metadata(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "family": FAMILY,
            "lookback": self.lookback,
            "features": self.features,
            "seeds": self.seeds,
            "calibrator": self.calibrator.to_json(),
            "base_rate": self.base_rate.tolist(),
            "agreement": asdict(self.agreement),
            "extra": dict(extra),
        }


@dataclass(frozen=True)
class CustomModel:
    """Fits ensembles of the user's model, in this process, one member after another.

    Attributes:
        written: The user's model.
        lookback: Sessions that a row needs, itself included.
        members: Number of members; member k has the seed `seed + k`, k from 0.
        progress: Called after every member.
        calibration: How the mean logit is calibrated, and when a direction is issued; None: uncalibrated, which hides
            nothing from an audit.
        kept: Finished fits, which are loaded again instead of being done; None: each is done and none is kept.
    """

    written: UserModel
    lookback: int
    members: int = 1
    progress: Callable[[Trained], None] | None = None
    calibration: Calibration | None = field(default_factory=Calibration)
    kept: KeptFits | None = None

    def fit(
        self,
        x: NDArray[np.float32],
        mask: NDArray[np.bool_],
        y: NDArray[np.float32],
        *,
        train: range,
        stop: range,
        calibrate: range,
        seed: int,
        refit: NDArray[np.float32] | None = None,
    ) -> CustomEnsemble:
        """Fit the members on `train` and `stop`, and calibrate their mean logit on `calibrate`.

        There is no second fit: only the user's model knows whether it would stop at the same place.

        Args:
            x: Features, float32 [symbol, session, feature].
            mask: [symbol, session], true where the row is valid.
            y: float32 [symbol, session, horizon] in {0, 1}; NaN where unknown or not to be used.
            train: Session numbers to learn from.
            stop: Session numbers for early stopping; the members receive nothing from after them.
            calibrate: Session numbers that set the calibration and the abstention; no member sees their labels.
            seed: Seed of the first member.
            refit: Unused.

        Raises:
            ModelError: if `train` or `calibrate` has no usable label, or an input is not finite.
        """
        check_panel(x, mask, x.shape[-1])
        usable = usable_rows(mask, self.lookback, "windowed")
        base_rate = share_of_ups(y, labelled_rows(usable, y, train, "train"))
        seeds = tuple(range(seed, seed + self.members))
        given = _learnable_block(x, mask, y, usable, train, stop)
        fits = tuple(self._fit_one(given, train, stop, each, k) for k, each in enumerate(seeds, start=1))
        logits, labels, sessions = self._calibration_rows(fits, x, mask, y, calibrate)
        return CustomEnsemble(
            fits=fits,
            lookback=self.lookback,
            features=x.shape[-1],
            seeds=seeds,
            calibrator=fit_calibrator(logits.mean(axis=0), labels, base_rate, sessions, self.calibration)
            if self.calibration
            else uncalibrated(len(base_rate)),
            base_rate=base_rate,
            agreement=measure_agreement(logits),
        )

    def submit(
        self,
        x: NDArray[np.float32],
        mask: NDArray[np.bool_],
        y: NDArray[np.float32],
        *,
        train: range,
        stop: range,
        calibrate: range,
        seed: int,
        refit: NDArray[np.float32] | None = None,
    ) -> DeferredFuture[CustomEnsemble]:
        """Return a future whose `result` calls `fit`: the user's code runs in this process, one fit at a time."""
        return DeferredFuture(
            partial(self.fit, x, mask, y, train=train, stop=stop, calibrate=calibrate, seed=seed)
        )

    def _fit_one(
        self, given: tuple[NDArray[Any], ...], train: range, stop: range, seed: int, member: int
    ) -> UserFit:
        def fit() -> UserFit:
            return self.written.fit(*given, train=train, stop=stop, seed=seed)

        if self.kept:  # loaded even when it was fitted just now: a walk ends alike, interrupted or not
            folder = self.kept.keep(given, train, stop, seed, lambda: fit().save)
            fitted = self.written.load(folder, given[-1].shape[-1])
        else:
            fitted = fit()
        if self.progress:
            self.progress(Trained(member, self.members))
        return fitted

    def _calibration_rows(
        self,
        fits: tuple[UserFit, ...],
        x: NDArray[np.float32],
        mask: NDArray[np.bool_],
        y: NDArray[np.float32],
        calibrate: range,
    ) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.intp]]:
        """Return logits [member, row, horizon], labels [row, horizon] and session numbers [row] of `calibrate`."""
        first = first_session(None, self.lookback, calibrate.start)
        part, inside = slice(first, calibrate.stop), range(calibrate.start - first, calibrate.stop - first)
        x, mask, y = x[:, part], mask[:, part], y[:, part]
        rows = labelled_rows(usable_rows(mask, self.lookback, "windowed"), y, inside, "calibrate")
        wanted = np.zeros(mask.shape, dtype=bool)
        wanted.reshape(-1)[rows] = True
        return _logits(fits, x, mask, wanted), y[wanted], np.nonzero(wanted)[1]


def load(directory: Path, written: UserModel, metadata: Mapping[str, Any] | None = None) -> CustomEnsemble:
    """Return the ensemble that `CustomEnsemble.save` wrote; the user's model loads its members.

    Args:
        directory: The model's folder.
        written: The user's model.
        metadata: Its metadata, if the files are verified already; else they are verified here.

    Raises:
        ModelError: naming the file that is missing or damaged.
    """
    metadata = read_metadata(directory) if metadata is None else metadata
    try:
        horizons = len(metadata["base_rate"])
        members = range(1, len(metadata["seeds"]) + 1)
        return CustomEnsemble(
            fits=tuple(written.load(directory / _folder(number), horizons) for number in members),
            lookback=int(metadata["lookback"]),
            features=int(metadata["features"]),
            seeds=tuple(metadata["seeds"]),
            calibrator=read_calibrator(metadata["calibrator"]),
            base_rate=np.array(metadata["base_rate"]),
            agreement=Agreement(**metadata["agreement"]),
            extra=metadata["extra"],
        )
    except (KeyError, TypeError, AttributeError) as broken:
        raise ModelError(
            f"this is no description of an ensemble: {broken!r}",
            where=str(directory / METADATA),
            fix="load it with the version of nextday that saved it, or train again",
        ) from None


def _folder(number: int) -> str:
    return f"member-{number}"


def _learnable_block(
    x: NDArray[np.float32],
    mask: NDArray[np.bool_],
    y: NDArray[np.float32],
    usable: NDArray[np.bool_],
    train: range,
    stop: range,
) -> tuple[NDArray[Any], ...]:
    """Return copies of x, mask and y that end with the stop range, with the labels of train and stop rows only.

    Copies, because the base of a view is the whole block.
    """
    learned = np.zeros_like(usable)
    for part in (train, stop):
        learned[:, part.start : part.stop] = usable[:, part.start : part.stop]
    end = slice(0, stop.stop)
    labels = np.where(learned[:, end, None], y[:, end], np.float32(np.nan))
    return _without_invalid(x[:, end], mask[:, end]), mask[:, end].copy(), labels


def _without_invalid(x: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return a copy of x with zeros where the mask does not hold."""
    return np.where(mask[:, :, None], x, np.float32(0))


def _logits(
    fits: tuple[UserFit, ...], x: NDArray[np.float32], mask: NDArray[np.bool_], rows: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the logits [member, row, horizon] of the rows to forecast."""
    shown, valid = _without_invalid(x, mask), mask.copy()
    p_up = np.stack([fit.predict(shown, valid, rows) for fit in fits])
    p_up = np.clip(p_up, 1 - _CERTAIN, _CERTAIN)
    return np.asarray(np.log(p_up) - np.log1p(-p_up))
