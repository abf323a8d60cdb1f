"""The DCI score (Eastwood and Williams, "A Framework for the Quantitative Evaluation of Disentangled Representations").

disentanglement_lib fits one scikit-learn GradientBoostingClassifier per factor and takes the scores from the
importances of the latents. Here boosting.py fits the same models, all together; what can differ, and why, is said
there.
"""

from typing import Any

import numpy as np
import torch
from disentanglement_lib.data.ground_truth.ground_truth_data import GroundTruthData
from numpy.random import RandomState
from numpy.typing import NDArray
from tqdm import tqdm

from disentanglement_challenge import environment
from disentanglement_challenge.errors import DataError, RepresentationError
from disentanglement_challenge.evaluation.table import sample_codes
from disentanglement_challenge.export.representor import RepresentationFunction
from disentanglement_challenge.library import dci
from disentanglement_challenge.metrics.boosting import N_STAGES, SortedFeatures, fit_boosting
from disentanglement_challenge.metrics.boosting_torch import torch_screen


def compute_dci(
    ground_truth_data: GroundTruthData,
    representation_function: RepresentationFunction,
    random_state: RandomState,
    num_train: int = 10000,
    num_test: int = 5000,
    batch_size: int = 16,
) -> tuple[dict[str, float], NDArray[np.float64]]:
    """disentanglement_lib's `compute_dci`; the defaults are the challenge's settings.

    Args:
        ground_truth_data: what to sample from.
        representation_function: observations to representations [N, num_latent].
        random_state: what to sample with.
        num_train: points to fit on.
        num_test: points to score on.
        batch_size: how many are sampled at a time, on which the random stream depends.

    Returns:
        informativeness_train, informativeness_test, disentanglement and completeness, all in [0, 1], and the
        importances, float64 [num_latent, num_factors].

    Raises:
        RepresentationError: the representation holds values that are not finite float32.
        DataError: a factor takes one value over the training points.
    """
    mus_train, ys_train = sample_codes(ground_truth_data, representation_function, num_train, random_state, batch_size)
    mus_test, ys_test = sample_codes(ground_truth_data, representation_function, num_test, random_state, batch_size)
    importances, train_accuracy, test_accuracy = compute_importance(mus_train, ys_train, mus_test, ys_test)
    scores = {
        "informativeness_train": train_accuracy,
        "informativeness_test": test_accuracy,
        "disentanglement": float(dci.disentanglement(importances)),
        "completeness": float(dci.completeness(importances)),
    }
    return scores, importances


def compute_importance(
    mus_train: NDArray[Any],
    ys_train: NDArray[Any],
    mus_test: NDArray[Any],
    ys_test: NDArray[Any],
    device: torch.device | str | None = None,
) -> tuple[NDArray[np.float64], float, float]:
    """disentanglement_lib's `compute_importance_gbt`.

    Args:
        mus_train: training codes [num_codes, num_train], float.
        ys_train: training factors [num_factors, num_train], integers.
        mus_test: test codes [num_codes, num_test], float.
        ys_test: test factors [num_factors, num_test], integers.
        device: "cuda" for the torch engine, "cpu" for numba on all cores; None takes CUDA where it may be used
            (`environment.use_cuda`).

    Returns:
        Importances, float64 [num_codes, num_factors], each column of sum one (zero where nothing could be split), and
        the accuracies on the training and on the test points, means over factors.

    Raises:
        RepresentationError: codes that are not finite float32, or other latents in the test than in the training codes.
        DataError: a factor takes one value in ys_train, or factors and codes do not have the same points.
    """
    mus_test, ys_test = np.asarray(mus_test), np.asarray(ys_test)
    if len(mus_test) != len(mus_train):
        raise RepresentationError(
            f"there are {len(mus_train)} latents in the training and {len(mus_test)} in the test codes"
        )
    shape = (len(ys_train), mus_test.shape[1])
    if ys_test.shape != shape:
        raise DataError(f"test factors must have the shape {shape} to go with the codes, not {ys_test.shape}")
    where = environment.device() if device is None else torch.device(device)
    screen = None if where.type == "cpu" else torch_screen(where)
    features = SortedFeatures(np.asarray(mus_train).T)
    with tqdm(total=N_STAGES, desc="dci", unit="stage", delay=2, leave=False) as bar:
        models = fit_boosting(features, ys_train, screen, lambda: bar.update(1))
    importances = np.stack([model.importances for model in models], axis=1)
    train = [np.mean(model.train_labels == y) for model, y in zip(models, ys_train, strict=True)]
    test = [np.mean(model.predict(mus_test.T) == y) for model, y in zip(models, ys_test, strict=True)]
    return importances, float(np.mean(train)), float(np.mean(test))
