"""Codes with known scores, and the field's formulas in plain float64, written from the papers.

The codes have one point for each combination of factors, so that different factors share no information.
"""

import math
from collections import Counter

import numpy as np
from numpy.random import RandomState

FACTOR_SIZES = [4, 3, 2, 5]
ENTROPIES = np.log(FACTOR_SIZES)


def grid(sizes=FACTOR_SIZES):
    """Return one row for each combination of factors, int64 [N, num_factors]."""
    return np.stack([axis.ravel() for axis in np.meshgrid(*map(np.arange, sizes), indexing="ij")], axis=1)


def two_binary_factors(repeats=25):
    """Return the sum and difference of two binary factors (a rotation by 45 degrees), and the factors."""
    factors = np.tile(grid([2, 2]), (repeats, 1))
    return np.stack([factors.sum(axis=1), factors[:, 0] - factors[:, 1]], axis=1).astype(np.float64), factors


def noisy_codes(num_points=400, seed=0):
    """Return codes that mix factors and noise, float64 [N, 6], and factors [N, 3] of 3, 4 and 5 values."""
    random_state = RandomState(seed)
    factors = np.stack([random_state.randint(size, size=num_points) for size in (3, 4, 5)], axis=1)
    mixing = random_state.normal(size=(3, 6)) * (random_state.uniform(size=(3, 6)) < 0.6)
    return factors @ mixing + random_state.normal(size=(num_points, 6)), factors


def bins_of(latent, num_bins):
    """Return each value's bin among equal bins between the least and the greatest value, which is in the last bin."""
    low, high = min(latent), max(latent)
    return [min(num_bins - 1, math.floor((value - low) / (high - low) * num_bins)) for value in map(float, latent)]


def entropy(labels):
    counts = Counter(labels)
    return -sum(count / len(labels) * math.log(count / len(labels)) for count in counts.values())


def mutual_information(one, other):
    one, other = list(one), list(other)
    return entropy(one) + entropy(other) - entropy(list(zip(one, other, strict=True)))


def information_matrix(codes, factors, num_bins):
    """Compute the mutual information of latents and factors in nats, [num_latent, num_factors]."""
    return np.array([[mutual_information(bins_of(z, num_bins), y.tolist()) for y in factors.T] for z in codes.T])


def softmax_regression(features, labels, penalty, steps=400):
    """Fit a multinomial logistic regression of labels 0 to K - 1 with Newton's method; return probabilities [N, K].

    It minimises the sum of the points' negative log likelihoods plus penalty / 2 times the squared weights, without
    the intercepts.
    """
    inputs = np.column_stack([features, np.ones(len(features))])
    one_hot = np.eye(labels.max() + 1)[labels]
    num_inputs, num_classes = inputs.shape[1], one_hot.shape[1]
    weights = np.zeros((num_inputs, num_classes))
    ridge = np.full((num_inputs, num_classes), penalty)
    ridge[-1] = 0

    def loss_of(weights):
        logits = inputs @ weights
        logits -= logits.max(axis=1, keepdims=True)
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        loss = -np.log(np.maximum(probabilities[one_hot > 0], 1e-300)).sum() + (ridge * weights**2).sum() / 2
        return loss, probabilities

    loss, probabilities = loss_of(weights)
    for _ in range(steps):
        gradient = inputs.T @ (probabilities - one_hot) + ridge * weights
        hessian = np.zeros((num_inputs, num_classes, num_inputs, num_classes))
        for k in range(num_classes):
            for m in range(num_classes):
                curvature = probabilities[:, k] * ((k == m) - probabilities[:, m])
                hessian[:, k, :, m] = inputs.T @ (inputs * curvature[:, None])
        hessian = hessian.reshape(weights.size, weights.size) + np.diag(ridge.ravel())
        step = np.linalg.lstsq(hessian, gradient.ravel(), rcond=1e-10)[0].reshape(weights.shape)
        length = 1.0
        while length > 1e-10 and loss_of(weights - length * step)[0] > loss:
            length /= 2
        before, weights = loss, weights - length * step
        loss, probabilities = loss_of(weights)
        if before - loss < 1e-12 * abs(before):
            break
    return probabilities
