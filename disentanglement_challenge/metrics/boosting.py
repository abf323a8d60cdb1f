"""Gradient boosting with the same result as scikit-learn's GradientBoostingClassifier(), without its repeated work.

The model is scikit-learn's with its defaults: log loss, squared-error (Friedman) splits, depth 3, 100 stages,
learning rate 0.1, exact splits, one tree per class and stage (one per stage for two classes). scikit-learn sorts every
feature again in every node of every tree; DCI fits one such model per factor on the same representation. Here

* each feature is sorted once (`SortedFeatures`), constant features are left out and equal ones are examined once;
* the trees of all classes of all factors grow together, level by level (a tree of limited depth does not depend on the
  order in which its nodes are split), so that one walk along a sorted feature serves 16 trees at a time;
* the walk is a *screen*: in float32 it finds, for every (tree, node, feature), the largest impurity decrease of any
  cut. The features within float32's error of the best are then walked again in float64 with scikit-learn's own
  arithmetic, and only that exact walk decides.

One difference from scikit-learn remains: features whose best cuts have the same float64 score. scikit-learn takes the
first in a random order for each node, so two of its own fits differ as well. Here the lowest column is split, and the
importance is shared equally among the tied columns: the mean over scikit-learn's draws. Cuts that separate the same
points are equally good up to the last bits of their sums. Summing in scikit-learn's order mostly decides as it does,
but its order below the root depends on its draws too. Such cuts are common in nodes of a few points, which many
features separate. A different choice in an early stage changes the later trees as much as another random state changes
scikit-learn's.
"""

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numba
import numpy as np

from disentanglement_challenge.errors import DataError, RepresentationError
from disentanglement_challenge.metrics.boosting_kernels import (
    EPSILON,
    FEATURE_THRESHOLD,
    MAX_DEPTH,
    NUM_LEAVES,
    NUM_SPLITS,
    negative_gradients,
    pack_trees,
    raw_predictions,
    split_nodes,
    update_leaves,
)
from disentanglement_challenge.metrics.boosting_screen import EMPTY_SIDE, LANES, run_in_pieces, screen

N_STAGES = 100
# Tasks of about a millisecond at 10,000 points, like FEATURES_PER_TASK.
TREES_PER_TASK = 4
POINTS_PER_TASK = 1024


class SortedFeatures:
    """The columns of a representation that can be split, each with its sorted order; shared by all factors.

    Attributes:
        values: float32 [D, n], the distinct non-constant columns, each as one row.
        order: uint16 (uint32 above 65,536 points) [D, n], the points of each row in ascending order of value.
        columns: int64 [D], the lowest column of the representation that each row stands for.
        twins: int64 [num_codes], the row that each column is equal to, -1 for a constant column.
        num_codes: columns of the representation.
    """

    def __init__(self, x: np.ndarray) -> None:
        """Sort the columns of x, floats [n, num_codes], as float32, like scikit-learn's trees.

        Raises:
            RepresentationError: x is not a matrix, is empty, or has values that float32 cannot hold.
        """
        columns = np.ascontiguousarray(as_features(x).T)
        self.num_codes = len(columns)
        self.twins = np.full(self.num_codes, -1, np.int64)
        first: dict[bytes, int] = {}
        kept: list[int] = []
        for column, values in enumerate(columns):
            if values.max() <= values.min() + FEATURE_THRESHOLD:
                continue
            self.twins[column] = first.setdefault(values.tobytes(), len(kept))
            if self.twins[column] == len(kept):
                kept.append(column)
        self.columns = np.array(kept, np.int64)
        self.values = columns if len(kept) == self.num_codes else columns[kept]
        num_points = columns.shape[1]
        self.order = np.empty(self.values.shape, np.uint16 if num_points <= 2**16 else np.uint32)
        for row, values in enumerate(self.values):
            self.order[row] = np.argsort(values, kind="stable")


@dataclass(frozen=True)
class Boosting:
    """A fitted model of one factor. Trees are complete binary trees: split i has the children 2 i + 1 and 2 i + 2.

    Attributes:
        classes: the K labels in ascending order.
        importances: float64 [num_codes], sums to one (zeros if nothing could be split): `feature_importances_`.
        tied: the share of the importance from splits where several columns were equally good, in [0, 1].
        train_labels: [n], the model's predictions for the points it was fitted on.
        prior: float64 [C], C = 1 for two classes and K above: the raw prediction before the first tree.
        split_columns: int32 [stages, C, 7].
        thresholds: float64 [stages, C, 7]; a value <= threshold goes left, and inf sends all points of a leaf left.
        leaf_values: float64 [stages, C, 8], before the learning rate.
    """

    classes: np.ndarray
    importances: np.ndarray
    tied: float
    train_labels: np.ndarray
    prior: np.ndarray
    split_columns: np.ndarray
    thresholds: np.ndarray
    leaf_values: np.ndarray

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return labels [m] for points x, floats [m, num_codes].

        Raises:
            RepresentationError: x has another number of columns, or values that float32 cannot hold.
        """
        x = as_features(x)
        if x.shape[1] != len(self.importances):
            raise RepresentationError(
                f"the points have {x.shape[1]} latents; the model was fitted on {len(self.importances)}"
            )
        raw = raw_predictions(x, self.prior, self.split_columns, self.thresholds, self.leaf_values)
        return _labels(self.classes, raw)


def as_features(x: np.ndarray) -> np.ndarray:
    """Return x as C-ordered float32 [n, num_codes] without negative zeros; raise RepresentationError if invalid."""
    x = np.asarray(x)
    if x.ndim != 2 or 0 in x.shape:
        raise RepresentationError(
            f"the representation has shape {x.shape}; expected a matrix [points, latents] with at least one entry"
        )
    with np.errstate(over="ignore"):
        x = np.ascontiguousarray(x, dtype=np.float32) + np.float32(0)
    finite = np.isfinite(x).all(axis=0)
    if not finite.all():
        latent = int(np.argmin(finite))
        raise RepresentationError(
            f"latent {latent} of the representation has values that are NaN, infinite or too large ({(~finite).sum()} "
            f"of {x.shape[1]} latents have); every value must be a finite float32"
        )
    return x


def fit_boosting(
    features: SortedFeatures,
    labels: np.ndarray,
    progress: Callable[[], object] | None = None,
    n_stages: int = N_STAGES,
) -> list[Boosting]:
    """Fit one classifier per factor, all together, as sklearn.ensemble.GradientBoostingClassifier() (sklearn 1.9).

    Args:
        features: the sorted representation of n points.
        labels: integers [num_factors, n].
        progress: called after every stage.
        n_stages: `n_estimators`.

    Raises:
        DataError: labels have another shape, or a factor has a single value (scikit-learn refuses it as well).
    """
    labels = np.asarray(labels)
    num_points = features.values.shape[1]
    if labels.ndim != 2 or labels.shape[1] != num_points:
        raise DataError(f"labels have shape {labels.shape}; expected [num_factors, {num_points}]")
    classes, codes, priors, first_tree = [], [], [], [0]
    for factor, row in enumerate(labels):
        present, code, counts = np.unique(row, return_inverse=True, return_counts=True)
        if len(present) < 2:
            raise DataError(
                f"factor {factor} has the single value {row[0]} in all {num_points} training points; "
                "a classifier needs at least two"
            )
        classes.append(present)
        codes.append(code)
        priors.append(_prior(counts))
        first_tree.append(first_tree[-1] + len(priors[-1]))
    num_trees = first_tree[-1]

    raw = np.repeat(np.concatenate(priors)[:, None], num_points, axis=1)
    targets = np.zeros((num_trees, num_points), np.uint8)
    for factor, code in enumerate(codes):
        one_hot = code[None] == np.arange(len(classes[factor]))[:, None]
        targets[first_tree[factor] : first_tree[factor + 1]] = one_hot[1:] if len(one_hot) == 2 else one_hot
    shrink = np.repeat([(len(c) - 1) / len(c) if len(c) > 2 else 1.0 for c in classes], np.diff(first_tree))

    trees = []
    with ThreadPoolExecutor(numba.get_num_threads()) as pool:
        grower = _Grower(features, pool, num_trees)
        for _ in range(n_stages):
            residuals = np.empty_like(raw)
            run_in_pieces(
                pool, num_points, POINTS_PER_TASK, negative_gradients, raw, targets, np.array(first_tree), residuals
            )
            trees.append(grower.grow(residuals, targets, shrink, raw))
            if progress is not None:
                progress()
    split_columns, thresholds, leaf_values = (np.stack(part) for part in zip(*trees, strict=True))
    fitted = []
    for factor, (start, stop) in enumerate(pairwise(first_tree)):
        decrease = grower.decrease[start:stop].sum(axis=0)
        total = decrease.sum()
        share = decrease / total if total > 0 else decrease
        twins = features.twins
        split = twins >= 0
        importances = np.zeros(features.num_codes)
        importances[split] = (share / np.bincount(twins[split], minlength=len(share)))[twins[split]]
        fitted.append(
            Boosting(
                classes=classes[factor],
                importances=importances,
                tied=float(grower.tied[start:stop].sum() / total) if total > 0 else 0.0,
                train_labels=_labels(classes[factor], raw[start:stop]),
                prior=priors[factor],
                split_columns=split_columns[:, start:stop],
                thresholds=thresholds[:, start:stop],
                leaf_values=leaf_values[:, start:stop],
            )
        )
    return fitted


def _prior(counts: np.ndarray) -> np.ndarray:
    """Return raw predictions of the class frequencies: logit for two classes, else log over the geometric mean."""
    prior = np.clip(counts / counts.sum(), EPSILON, 1 - EPSILON)
    if len(prior) == 2:
        return np.log(prior[1:] / (1 - prior[1:]))
    return np.log(prior) - np.log(prior).mean()


def _labels(classes: np.ndarray, raw: np.ndarray) -> np.ndarray:
    """Return labels [n] from raw predictions [C, n]."""
    return classes[(raw[0] >= 0).astype(np.int64) if len(raw) == 1 else raw.argmax(axis=0)]


class _Grower:
    """Buffers for growing all trees of a stage, and the impurity decrease summed over stages."""

    def __init__(self, features: SortedFeatures, pool: Executor, num_trees: int) -> None:
        num_features, num_points = features.values.shape
        self.features = features
        self.pool = pool
        self.multiplicity = np.bincount(features.twins[features.twins >= 0], minlength=num_features).astype(np.float64)
        self.decrease = np.zeros((num_trees, num_features))
        self.tied = np.zeros(num_trees)
        num_tiles = -(-num_trees // LANES)
        # Rows that start at a cache line are read with one access instead of two.
        buffer = np.zeros((num_tiles * num_points + 1) * LANES, np.float32)
        start = -(buffer.ctypes.data // buffer.itemsize) % LANES
        self.residual_tiles = buffer[start : start + num_tiles * num_points * LANES].reshape(
            num_tiles, num_points, LANES
        )
        self.node_tiles = np.zeros((num_tiles, num_points, LANES), np.uint8)

    def grow(
        self,
        residuals: np.ndarray,
        targets: np.ndarray,
        shrink: np.ndarray,
        raw: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Grow one tree per row of residuals [trees, n], add the predictions to raw, return splits and leaf values."""
        num_trees, num_points = residuals.shape
        split_columns = np.zeros((num_trees, NUM_SPLITS), np.int32)
        thresholds = np.full((num_trees, NUM_SPLITS), np.inf)
        leaf_values = np.empty((num_trees, NUM_LEAVES))
        nodes = np.zeros((num_trees, num_points), np.uint8)
        features = self.features
        if len(features.values):
            for level in range(MAX_DEPTH):
                stats = np.zeros((num_trees, 2**level, 3))
                sizes = np.full((len(self.node_tiles), 2**level, LANES), EMPTY_SIDE)
                tiles = self.residual_tiles, self.node_tiles, sizes
                run_in_pieces(self.pool, num_trees, TREES_PER_TASK, pack_trees, residuals, nodes, stats, *tiles)
                bounds = screen(self.pool, features.order, *tiles)
                level_splits = slice(2**level - 1, 2 ** (level + 1) - 1)
                run_in_pieces(
                    self.pool,
                    num_trees,
                    TREES_PER_TASK,
                    split_nodes,
                    features.values,
                    features.order,
                    features.columns,
                    self.multiplicity,
                    residuals,
                    nodes,
                    stats,
                    bounds,
                    split_columns[:, level_splits],
                    thresholds[:, level_splits],
                    self.decrease,
                    self.tied,
                )
        leaves = residuals, targets, shrink, nodes, leaf_values, raw
        run_in_pieces(self.pool, num_trees, TREES_PER_TASK, update_leaves, *leaves)
        return split_columns, thresholds, leaf_values
