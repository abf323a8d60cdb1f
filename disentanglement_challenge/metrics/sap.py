"""The SAP score (Kumar et al., "Variational Inference of Disentangled Latent Concepts", section 3).

disentanglement_lib fits sklearn's LinearSVC(C=0.01, class_weight="balanced") for every pair of a latent and a factor.
Each fit passes over all points some tens of times for each of the factor's values. On one latent the problem has two
unknowns, a weight w and an intercept b (which liblinear regularises like a weight). For one value of the factor against
the rest, it minimises

    f(w, b) = (w^2 + b^2) / 2 + sum_i C_i max(0, 1 - y_i (w x_i + b))^2,    y_i = +1 for the value, -1 for the rest.

With the latent's values sorted, the points of one sign with a positive hinge loss are a prefix or a suffix, found by
bisection. f, its gradient and its Hessian follow from the number of these points and their sums of x and x^2, which are
differences of running sums. A step of the solver then costs tens of operations instead of passes over the points.

The solver takes the same steps as liblinear's and stops at the same tolerance (trust-region Newton: Lin, Weng and
Keerthi, "Trust Region Newton Method for Large-Scale Logistic Regression", algorithms 1 and 2). This matters for
uninformative latents: the decision functions of the factor's values nearly tie, and the tolerance decides.
"""

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from disentanglement_challenge.compiled import compiled
from disentanglement_challenge.data.sampling import Points
from disentanglement_challenge.metrics.metric import Metric, Result, Setting, count

# LinearSVC's arguments: C as in disentanglement_lib, tol and max_iter as sklearn's defaults.
_C = 0.01
_TOLERANCE = 1e-4
_MAX_ITERATIONS = 1000
# scikit-learn fits a latent whose training values are all closer to 0 than this. Measured at 10,000 points: with values
# within 4e-5 a score differed by 5e-3, within 5e-4 an accuracy by 1.4e-3.
_NEARLY_ZERO = 1e-3
# It also fits one whose range is below this share of its largest value: a few units in float32's last place.
_NEARLY_CONSTANT = 1e-5


def _compute(train: Points, test: Points) -> Result:
    accuracies = svm_accuracies(train.codes, train.factors, test.codes, test.factors)
    matrix = accuracies
    if len(matrix) == 1:  # compare with an uninformative latent
        silent = svm_accuracies(np.zeros_like(train.codes), train.factors, np.zeros_like(test.codes), test.factors)
        matrix = np.concatenate([matrix, silent])
    runner_up, best = np.sort(matrix, axis=0)[-2:]
    return Result({"SAP_score": float(np.mean(best - runner_up))}, accuracies)


def svm_accuracies(
    codes: NDArray[Any], factors: NDArray[np.int64], codes_test: NDArray[Any], factors_test: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Compute the test accuracy of a balanced linear support vector classifier of each factor from each single latent.

    Args:
        codes: for training, float [num_train, num_latent].
        factors: for training, values from 0, [num_train, num_factors]; each factor has at least two.
        codes_test: float [num_test, num_latent].
        factors_test: [num_test, num_factors].

    Returns:
        float64 [num_latent, num_factors].
    """
    accuracies = np.empty((codes.shape[1], factors.shape[1]))
    mus, mus_test = np.ascontiguousarray(codes.T), np.ascontiguousarray(codes_test.T)
    order = np.argsort(mus, axis=1).astype(np.int32)
    pairs = zip(factors.T, factors_test.T, strict=True)
    for j, (y, y_test) in enumerate(
        tqdm(pairs, desc="sap_score", total=factors.shape[1], unit="factor", delay=2, leave=False)
    ):
        values, classes = np.unique(y, return_inverse=True)
        # A value that occurs only in the test points gets a class that is never predicted.
        test_classes = np.where(np.isin(y_test, values), np.searchsorted(values, y_test), -1)
        accuracies[:, j] = _accuracies(mus, order, classes, np.bincount(classes), mus_test, test_classes)

    # On a latent that is nearly zero or nearly constant, values with the same number of points have nearly the same
    # problem, and the rounding of scikit-learn's sums decides between them. So scikit-learn itself fits them. Equal
    # collapsed latents are fitted once.
    largest = np.abs(mus).max(axis=1)
    dead = np.flatnonzero((largest < _NEARLY_ZERO) | (np.ptp(mus, axis=1) < _NEARLY_CONSTANT * largest))
    if len(dead):
        inputs = np.column_stack([mus[dead], mus_test[dead]])
        _, first, copy_of = np.unique(inputs, axis=0, return_index=True, return_inverse=True)
        fitted = [_fitted(mus[latent], factors.T, mus_test[latent], factors_test.T) for latent in dead[first]]
        accuracies[dead] = np.array(fitted)[copy_of]
    return accuracies


def _fitted(
    mu: NDArray[Any], factors: NDArray[np.int64], mu_test: NDArray[Any], factors_test: NDArray[np.int64]
) -> list[float]:
    """Return the accuracies of one latent by scikit-learn's own classifier, as the library fits it."""
    from sklearn.svm import LinearSVC  # takes a second to import, and only rare latents need it

    accuracies = []
    for y, y_test in zip(factors, factors_test, strict=True):
        classifier = LinearSVC(C=_C, class_weight="balanced").fit(mu[:, np.newaxis], y)
        accuracies.append(float(np.mean(classifier.predict(mu_test[:, np.newaxis]) == y_test)))
    return accuracies


@compiled(parallel=True)
def _accuracies(mus, order, classes, class_sizes, mus_test, test_classes):  # type: ignore[no-untyped-def]
    num_latent, num_train = mus.shape
    num_classes = len(class_sizes)
    # sklearn's "balanced" class weights.
    class_cost = _C * num_train / (num_classes * class_sizes)
    ends = np.cumsum(class_sizes)
    accuracies = np.empty(num_latent)
    for i in numba.prange(num_latent):
        x = mus[i][order[i]].astype(np.float64)
        x_sums = _running_sums(x)
        # The same values, grouped by class.
        place = ends - class_sizes
        grouped = np.empty(num_train)
        for rank in range(num_train):
            label = classes[order[i, rank]]
            grouped[place[label]] = x[rank]
            place[label] += 1
        grouped_sums = _running_sums(grouped)

        weights, intercepts = np.empty(num_classes), np.empty(num_classes)
        for label in range(num_classes):
            # liblinear's weights: with two classes, each has its own; with more, the rest counts as one class of
            # weight 1.
            rest_cost = class_cost[1 - label] if num_classes == 2 else _C
            problem = (
                x,
                x_sums,
                grouped,
                grouped_sums,
                ends[label] - class_sizes[label],
                ends[label],
                class_cost[label],
                rest_cost,
            )
            tolerance = _TOLERANCE * min(class_sizes[label], num_train - class_sizes[label]) / num_train
            weights[label], intercepts[label] = _trust_region_newton(problem, tolerance)

        correct = 0
        for k in range(len(test_classes)):
            value = np.float64(mus_test[i, k])
            if num_classes == 2:
                predicted = 1 if weights[1] * value + intercepts[1] > 0 else 0
            else:
                predicted, highest = 0, -np.inf
                for label in range(num_classes):
                    decision = weights[label] * value + intercepts[label]
                    if decision > highest:
                        predicted, highest = label, decision
            correct += predicted == test_classes[k]
        accuracies[i] = correct / len(test_classes)
    return accuracies


@compiled()
def _running_sums(x):  # type: ignore[no-untyped-def]
    """Return running sums of the first k values, [0], and of their squares, [1]."""
    sums = np.zeros((2, len(x) + 1))
    for k in range(len(x)):
        sums[0, k + 1] = sums[0, k] + x[k]
        sums[1, k + 1] = sums[1, k] + x[k] * x[k]
    return sums


@compiled()
def _margin_moments(x, sums, start, stop, y, w, b):  # type: ignore[no-untyped-def]
    """Return the number, sum and sum of squares of those values of the sorted x[start:stop] with y (w x + b) < 1."""
    rising = y * w > 0  # then the points inside the margin come first
    low, high = start, stop
    while low < high:
        middle = (low + high) // 2
        if (y * (w * x[middle] + b) < 1) == rising:
            low = middle + 1
        else:
            high = middle
    first, last = (start, low) if rising else (low, stop)
    return last - first, sums[0, last] - sums[0, first], sums[1, last] - sums[1, first]


@compiled()
def _quadratic(problem, w, b):  # type: ignore[no-untyped-def]
    """Return f at (w, b), its gradient (2 numbers) and its Hessian (3: ww, wb, bb)."""
    x, x_sums, grouped, grouped_sums, start, stop, cost, rest_cost = problem
    n_pos, sum_pos, square_pos = _margin_moments(grouped, grouped_sums, start, stop, 1.0, w, b)
    n_all, sum_all, square_all = _margin_moments(x, x_sums, 0, len(x), -1.0, w, b)
    n_own, sum_own, square_own = _margin_moments(grouped, grouped_sums, start, stop, -1.0, w, b)
    n_neg, sum_neg, square_neg = n_all - n_own, sum_all - sum_own, square_all - square_own

    # sum_i C_i (1 - y_i (w x_i + b))^2 over the points inside the margin, multiplied out.
    h_ww = 1 + 2 * (cost * square_pos + rest_cost * square_neg)
    h_wb = 2 * (cost * sum_pos + rest_cost * sum_neg)
    h_bb = 1 + 2 * (cost * n_pos + rest_cost * n_neg)
    q_w = 2 * (cost * sum_pos - rest_cost * sum_neg)
    q_b = 2 * (cost * n_pos - rest_cost * n_neg)
    g_w = h_ww * w + h_wb * b - q_w
    g_b = h_wb * w + h_bb * b - q_b
    f = ((g_w - q_w) * w + (g_b - q_b) * b) / 2 + cost * n_pos + rest_cost * n_neg
    return f, g_w, g_b, h_ww, h_wb, h_bb


@compiled()
def _conjugate_gradient(g_w, g_b, h_ww, h_wb, h_bb, radius):  # type: ignore[no-untyped-def]
    """Compute the step (s_w, s_b) of the quadratic model within a radius, and its residual (Lin et al., alg. 2)."""
    s_w = s_b = 0.0
    r_w, r_b = -g_w, -g_b
    d_w, d_b = r_w, r_b
    r_square = r_w * r_w + r_b * r_b
    enough = 0.1 * math.sqrt(r_square)
    while math.sqrt(r_square) > enough:
        hd_w, hd_b = h_ww * d_w + h_wb * d_b, h_wb * d_w + h_bb * d_b
        length = r_square / (d_w * hd_w + d_b * hd_b)
        next_w, next_b = s_w + length * d_w, s_b + length * d_b
        if math.sqrt(next_w * next_w + next_b * next_b) > radius:
            # Stop at the boundary.
            s_d = s_w * d_w + s_b * d_b
            d_d = d_w * d_w + d_b * d_b
            room = radius * radius - (s_w * s_w + s_b * s_b)
            root = math.sqrt(s_d * s_d + d_d * room)
            length = room / (s_d + root) if s_d >= 0 else (root - s_d) / d_d
            return s_w + length * d_w, s_b + length * d_b, r_w - length * hd_w, r_b - length * hd_b
        s_w, s_b = next_w, next_b
        r_w, r_b = r_w - length * hd_w, r_b - length * hd_b
        r_square_before, r_square = r_square, r_w * r_w + r_b * r_b
        turn = r_square / r_square_before
        d_w, d_b = r_w + turn * d_w, r_b + turn * d_b
    return s_w, s_b, r_w, r_b


@compiled()
def _trust_region_newton(problem, tolerance):  # type: ignore[no-untyped-def]
    """Find (w, b) whose gradient is `tolerance` of that at (0, 0) (Lin et al., algorithm 1, liblinear's constants)."""
    w = b = 0.0
    f, g_w, g_b, h_ww, h_wb, h_bb = _quadratic(problem, w, b)
    radius = math.hypot(g_w, g_b)
    enough = tolerance * radius
    iteration = 0
    while iteration < _MAX_ITERATIONS and math.hypot(g_w, g_b) > enough:
        s_w, s_b, r_w, r_b = _conjugate_gradient(g_w, g_b, h_ww, h_wb, h_bb, radius)
        slope = g_w * s_w + g_b * s_b
        predicted = (s_w * r_w + s_b * r_b - slope) / 2
        there = _quadratic(problem, w + s_w, b + s_b)
        actual = f - there[0]

        step = math.hypot(s_w, s_b)
        if iteration == 0:
            radius = min(radius, step)
        excess = -actual - slope
        scale = 4.0 if excess <= 0 else max(0.25, -0.5 * slope / excess)
        if actual < 1e-4 * predicted:
            radius = min(scale * step, 0.5 * radius)
        elif actual < 0.25 * predicted:
            radius = max(0.25 * radius, min(scale * step, 0.5 * radius))
        elif actual < 0.75 * predicted:
            radius = max(0.25 * radius, min(scale * step, 4 * radius))
        else:
            radius = max(radius, min(scale * step, 4 * radius))

        if actual > 1e-4 * predicted:
            iteration += 1
            w, b = w + s_w, b + s_b
            f, g_w, g_b, h_ww, h_wb, h_bb = there
        if not (abs(actual) > 1e-12 * abs(f) or abs(predicted) > 1e-12 * abs(f)):
            break  # only rounding is left, or an overflow
    return w, b


METRIC = Metric(
    name="sap_score",
    key="SAP_score",
    label="SAP",
    explanation="Test accuracy of a linear classifier that predicts a factor from one latent. SAP is the gap between a "
    "factor's two best latents.",
    compute=_compute,
    settings={
        "sap_score.num_train": count(10000),
        "sap_score.num_test": count(5000),
        "sap_score.batch_size": count(16),
        "sap_score.continuous_factors": Setting(False, parameter="", choices=(False, True), fast=(False,)),
    },
    draws=("sap_score.num_train", "sap_score.num_test"),
    column=2,
    tolerance=1e-3,
    library="sap_score.compute_sap",
    gin_name="sap_score",
    aliases=("sap",),
    matrix_label="SAP accuracy",
)


def sap(
    codes: ArrayLike, factors: ArrayLike, codes_test: ArrayLike | None = None, factors_test: ArrayLike | None = None
) -> float:
    """Compute the SAP score of these points, without sampling; `score` samples as the challenge does.

    Args:
        codes, factors: the training points, [N, num_latent] and [N, num_factors].
        codes_test, factors_test: the test points; by default the training points, which overestimates the accuracies.

    Example:
        >>> sap([[0, 5], [1, 2], [0, 3], [1, 9]], [[0], [1], [0], [1]])  # doctest: +SKIP
    """
    test = (codes, factors) if codes_test is None or factors_test is None else (codes_test, factors_test)
    return float(METRIC.of_arrays(codes, factors, *test).values[METRIC.key])
