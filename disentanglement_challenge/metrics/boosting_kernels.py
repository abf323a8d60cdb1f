"""The compiled parts of boosting.py, in scikit-learn's float64 arithmetic: residuals, splits, leaves, predictions.

Each works on a range of trees or points, so that threads can share the work.
"""

import numpy as np

from disentanglement_challenge.compiled import compiled
from disentanglement_challenge.metrics.boosting_screen import LANES

LEARNING_RATE = 0.1
MAX_DEPTH = 3
NUM_SPLITS = 2**MAX_DEPTH - 1
NUM_LEAVES = 2**MAX_DEPTH

FEATURE_THRESHOLD = np.float32(1e-7)  # sklearn/tree/_partitioner.pxd: closer values are never separated
# sklearn/tree/_tree.pyx: a node of smaller impurity is a leaf; _gb.py: the clipping of the prior.
EPSILON = np.finfo(np.float64).eps
ROUNDING = 1e-12  # relative, well above the error of a float64 sum of 10,000 residuals (about 1e-14)
SCREEN_SLACK = 0.02  # relative, added to float32's own error: twice what EMPTY_SIDE takes from a one-point side
SMALL_NODE = 64  # up to this size, sorting the node's points is faster than finding them among all points


@compiled(nogil=True)
def pack_trees(
    start: int,
    stop: int,
    residuals: np.ndarray,
    nodes: np.ndarray,
    stats: np.ndarray,
    residual_tiles: np.ndarray,
    node_tiles: np.ndarray,
    sizes: np.ndarray,
) -> None:
    """Fill stats, and the trees' lanes of the tiles and sizes; do not change lanes beyond the last tree.

    stats [trees, num_nodes, 3] are the size, the sum and the variance (scikit-learn's impurity) of a node's residuals.
    """
    num_points = residuals.shape[1]
    num_nodes = stats.shape[1]
    mean, scale = np.empty(num_nodes), np.empty(num_nodes)
    for tree in range(start, stop):
        tile, lane = tree // LANES, tree % LANES
        for i in range(num_points):
            j, residual = nodes[tree, i], residuals[tree, i]
            stats[tree, j, 0] += 1.0
            stats[tree, j, 1] += residual
            stats[tree, j, 2] += residual * residual
        for j in range(num_nodes):
            size = max(stats[tree, j, 0], 1.0)
            mean[j] = stats[tree, j, 1] / size
            stats[tree, j, 2] = stats[tree, j, 2] / size - mean[j] ** 2
            scale[j] = 1.0 / np.sqrt(stats[tree, j, 2]) if stats[tree, j, 2] > EPSILON else 0.0
            sizes[tile, j, lane] += np.float32(stats[tree, j, 0])
        for i in range(num_points):
            j = nodes[tree, i]
            residual_tiles[tile, i, lane] = np.float32((residuals[tree, i] - mean[j]) * scale[j])
            node_tiles[tile, i, lane] = j


@compiled(nogil=True)
def negative_gradients(
    start: int, stop: int, raw: np.ndarray, targets: np.ndarray, first_tree: np.ndarray, out: np.ndarray
) -> None:
    """Compute negative gradients [trees, n] of the half binomial or multinomial loss (sklearn/_loss/_loss.pyx.tp)."""
    for i in range(start, stop):
        for factor in range(len(first_tree) - 1):
            first, end = first_tree[factor], first_tree[factor + 1]
            if end - first == 1:
                y, value = targets[first, i], raw[first, i]
                if value > -37.0:  # below, the 1 in 1 + exp(-value) would be lost to rounding
                    odds = np.exp(-value)
                    out[first, i] = (y * odds - (1.0 - y)) / (1.0 + odds)
                else:
                    out[first, i] = y - np.exp(value)
            else:
                largest = raw[first, i]
                for tree in range(first, end):
                    largest = max(largest, raw[tree, i])
                total = 0.0
                for tree in range(first, end):
                    out[tree, i] = np.exp(raw[tree, i] - largest)
                    total += out[tree, i]
                for tree in range(first, end):
                    out[tree, i] = targets[tree, i] - out[tree, i] / total


@compiled(nogil=True)
def _sort_points(
    values: np.ndarray, order: np.ndarray, nodes: np.ndarray, node: int, points: np.ndarray, size: int
) -> None:
    """Sort points[:size], those of one node of a tree (nodes [n]), by one feature, ascending."""
    if size <= SMALL_NODE:
        for i in range(1, size):
            point, at = points[i], i
            while at > 0 and values[points[at - 1]] > values[point]:
                points[at] = points[at - 1]
                at -= 1
            points[at] = point
        return
    found = 0
    for point in order:
        # Write every point and overwrite those of other nodes: a branch would be mispredicted half of the time.
        points[found] = point
        found += nodes[point] == node


@compiled(nogil=True)
def _best_cut(
    values: np.ndarray, points: np.ndarray, residuals: np.ndarray, size: float, total: float
) -> tuple[float, float]:
    """Return the best score and threshold of one feature in one node, with scikit-learn's float64 sums and midpoints.

    values [n] of the feature; points of the node in ascending order of value; residuals [n] of the tree; size and
    total of the node's residuals. The score is sum_left^2 / n_left + sum_right^2 / n_right, or -inf if the feature is
    constant in the node. The first of equal scores wins.
    """
    best, threshold = -np.inf, np.inf
    left_sum, left, previous = 0.0, 0.0, np.float32(0)
    for point in points:
        value = values[point]
        if left > 0 and value > previous + FEATURE_THRESHOLD:
            right_sum = total - left_sum
            score = left_sum * left_sum / left + right_sum * right_sum / (size - left)
            if score > best:
                best, threshold = score, previous / 2.0 + value / 2.0
        left_sum += residuals[point]
        left += 1.0
        previous = value
    return best, threshold


@compiled(nogil=True)
def split_nodes(
    start: int,
    stop: int,
    values: np.ndarray,
    order: np.ndarray,
    columns: np.ndarray,
    multiplicity: np.ndarray,
    residuals: np.ndarray,
    nodes: np.ndarray,
    stats: np.ndarray,
    bounds: np.ndarray,
    split_columns: np.ndarray,
    thresholds: np.ndarray,
    decrease: np.ndarray,
    tied: np.ndarray,
) -> None:
    """Split the nodes of a level that scikit-learn would split; move their points to the next level (in place)."""
    num_nodes = stats.shape[1]
    num_features, num_points = values.shape
    # A float32 prefix sum of n residuals is off by at most n 2^-24 times its largest value, and a cut that can win
    # has a sum of at least 2 / sqrt(n) times that value: 6% of the score at 10,000 points, if every rounding fell the
    # same way.
    slack = 1.0 + SCREEN_SLACK + num_points**1.5 * 2.0**-24
    for tree in range(start, stop):
        tile, lane = tree // LANES, tree % LANES
        split_row = np.full(num_nodes, -1, np.int64)
        scores = np.empty(num_features)
        cuts = np.empty(num_features)
        points = np.empty(num_points + 1, np.int32)
        for j in range(num_nodes):
            size, total, variance = stats[tree, j]
            if size < 2 or variance <= EPSILON:
                continue
            count = int(size)
            members = points[:count]
            members[:] = np.flatnonzero(nodes[tree] == j)
            scores[:] = -np.inf
            likely = 0
            for f in range(num_features):
                if bounds[tile, f, j, lane] > bounds[tile, likely, j, lane]:
                    likely = f
            _sort_points(values[likely], order[likely], nodes[tree], j, points, count)
            scores[likely], cuts[likely] = _best_cut(values[likely], members, residuals[tree], size, total)
            best = scores[likely]
            for f in range(num_features):
                bound = total * total / size + bounds[tile, f, j, lane] * size * variance * slack
                if f == likely or bound < best - ROUNDING * abs(best):
                    continue
                _sort_points(values[f], order[f], nodes[tree], j, points, count)
                scores[f], cuts[f] = _best_cut(values[f], members, residuals[tree], size, total)
                best = max(best, scores[f])
            if best == -np.inf:
                continue
            shares = 0.0
            for f in range(num_features):
                if scores[f] == best:
                    shares += multiplicity[f]
                    if split_row[j] < 0:
                        split_row[j] = f
            gain = max(best - total * total / size, 0.0)
            for f in range(num_features):
                if scores[f] == best:
                    decrease[tree, f] += gain * multiplicity[f] / shares
            if shares > 1:
                tied[tree] += gain
            split_columns[tree, j] = columns[split_row[j]]
            thresholds[tree, j] = cuts[split_row[j]]
        for i in range(num_points):
            j = nodes[tree, i]
            right = split_row[j] >= 0 and values[split_row[j], i] > thresholds[tree, j]
            nodes[tree, i] = 2 * j + right


@compiled(nogil=True)
def update_leaves(
    start: int,
    stop: int,
    residuals: np.ndarray,
    targets: np.ndarray,
    shrink: np.ndarray,
    leaves: np.ndarray,
    leaf_values: np.ndarray,
    raw: np.ndarray,
) -> None:
    """Add one Newton step per leaf to raw [trees, n] (sklearn/ensemble/_gb.py, _update_terminal_regions)."""
    num_points = residuals.shape[1]
    for tree in range(start, stop):
        gradient, hessian, count = np.zeros(NUM_LEAVES), np.zeros(NUM_LEAVES), np.zeros(NUM_LEAVES)
        for i in range(num_points):
            leaf = leaves[tree, i]
            probability = targets[tree, i] - residuals[tree, i]
            gradient[leaf] += residuals[tree, i]
            hessian[leaf] += probability * (1.0 - probability)
            count[leaf] += 1.0
        for leaf in range(NUM_LEAVES):
            leaf_values[tree, leaf] = 0.0
            if count[leaf] > 0 and abs(hessian[leaf] / count[leaf]) >= 1e-150:
                leaf_values[tree, leaf] = gradient[leaf] * shrink[tree] / hessian[leaf]
        for i in range(num_points):
            raw[tree, i] += LEARNING_RATE * leaf_values[tree, leaves[tree, i]]


@compiled(nogil=True)
def raw_predictions(
    x: np.ndarray, prior: np.ndarray, split_columns: np.ndarray, thresholds: np.ndarray, leaf_values: np.ndarray
) -> np.ndarray:
    """Compute raw predictions [C, m] of points x [m, num_codes]."""
    num_stages, num_trees, num_splits = split_columns.shape
    raw = np.empty((num_trees, len(x)))
    for i in range(len(x)):
        for tree in range(num_trees):
            value = prior[tree]
            for stage in range(num_stages):
                at = 0
                while at < num_splits:
                    at = 2 * at + 1 + (x[i, split_columns[stage, tree, at]] > thresholds[stage, tree, at])
                value += LEARNING_RATE * leaf_values[stage, tree, at - num_splits]
            raw[tree, i] = value
    return raw
