"""Read a saved classifier; the model that forecasts is the one that was fitted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from models.baselines import FittedBaseline
from models.calibration.calibrator import read_calibrator
from models.classifiers.classifier import ClassifierEnsemble, make_baseline
from models.classifiers.skops_files import estimator_file, read_estimator
from models.ensembles.model_files import METADATA, read_metadata
from models.errors import ModelError

__all__ = ["load"]


def load(directory: Path, metadata: Mapping[str, Any] | None = None) -> ClassifierEnsemble:
    """Return the classifier that is saved in a folder; no code in its files is ever run.

    Args:
        directory: The model's folder.
        metadata: Its metadata, if the files are verified already; else they are verified here.

    Raises:
        ModelError: naming the file that is missing, damaged or refused.
    """
    metadata = read_metadata(directory) if metadata is None else metadata
    try:
        kind, mode, outputs = metadata["kind"], metadata["mode"], len(metadata["base_rate"])
        baseline = make_baseline(kind, metadata["return_feature"], metadata["lookback"], mode)
        return ClassifierEnsemble(
            kind=kind,
            return_feature=metadata["return_feature"],
            fitted=FittedBaseline(
                estimates=tuple(
                    read_estimator(directory / estimator_file(number), kind)
                    for number in range(1, outputs + 1)
                ),
                base_rate=np.array(metadata["base_rate"]),
                features=metadata["features"],
                reads=(baseline.read,) * outputs,
                reach=baseline.reach,
                lookback=metadata["lookback"],
                mode=mode,
                start=0 if mode == "sequence" else None,  # a block for a saved model begins at its start
            ),
            calibrator=read_calibrator(metadata["calibrator"]),
            seed=metadata["seeds"][0],
            centre=np.array(metadata["centre"], np.float32),
            extra=metadata["extra"],
        )
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as broken:
        raise ModelError(
            f"this is no description of a classifier: {broken!r}",
            where=str(directory / METADATA),
            fix="load it with the version of nextday that saved it, or train again",
        ) from None
