"""Degenerate representations, which some training runs give: no traceback, no NaN, and the library's score.

The library's score is computed after our rule for which latents are left out, and in which precision.
"""

import warnings

import numpy as np
import pytest
from numpy.random import RandomState
from small_data import FACTOR_SIZES, NUM_IMAGES

from disentanglement_challenge import score
from disentanglement_challenge.metrics import METRICS
from disentanglement_challenge.metrics.codes import precision, varying

FACTORS = np.stack(np.unravel_index(np.arange(NUM_IMAGES), FACTOR_SIZES), axis=1)
SETTINGS = {
    "factor_vae_score.num_variance_estimate": 150,
    "factor_vae_score.num_train": 40,
    "factor_vae_score.num_eval": 20,
    "factor_vae_score.batch_size": 8,
    "dci.num_train": 60,
    "dci.num_test": 30,
    "sap_score.num_train": 80,
    "sap_score.num_test": 40,
    "mig.num_train": 150,
    "irs.num_train": 150,
}


def constant(random_state):
    return np.full(NUM_IMAGES, random_state.choice([0.0, 0.1, 1.1, -3.0, 1e-30, 1e30]))


def few_ulps(random_state):
    base = random_state.choice([1.0, 100.0])
    return base * (1 + random_state.choice([2.0**-52, 1e-7, 1e-6]) * random_state.randint(4, size=NUM_IMAGES))


def learnt(random_state):
    return FACTORS @ random_state.normal(size=4) + random_state.normal(size=NUM_IMAGES)


def of_a_factor(random_state):
    return FACTORS[:, random_state.randint(4)] * random_state.choice([0.3, 1.0, 255.0])


def huge(random_state):
    return of_a_factor(random_state) * random_state.choice([1e18, 1e30, 1e150, 1e300])


def denormal(random_state):
    return of_a_factor(random_state) * random_state.choice([1e-40, 1e-30, 5e-324, 1e-300])


def one_point(random_state):
    latent = np.zeros(NUM_IMAGES)
    latent[random_state.randint(NUM_IMAGES)] = random_state.choice([1.0, -1e4, 1e-4])
    return latent


def saturated(random_state):
    return np.clip(50 * learnt(random_state), -1, 1)


KINDS = [constant, few_ulps, learnt, of_a_factor, huge, denormal, one_point, saturated]


def representation(seed):
    """Return random latents of any of the kinds, possibly duplicated, in one of three precisions."""
    random_state = RandomState(seed)
    latents = [KINDS[kind](random_state) for kind in random_state.randint(len(KINDS), size=random_state.randint(2, 6))]
    latents += [latents[0]] * random_state.randint(2)
    codes = np.stack(latents, axis=1)
    dtype = (np.float64, np.float32, np.float16)[seed % 3]
    largest = np.finfo(dtype).max
    return np.clip(codes, -largest, largest).astype(dtype)


def drawn_latents(codes, metric):
    """Return the latents of the first points that a metric draws with its own sampler."""
    from disentanglement_challenge.data.sampling import GridSampler
    from disentanglement_challenge.data.tables import FactorGrid, factor_table

    sampler = GridSampler(FactorGrid(factor_table(FACTORS)), codes.__getitem__)
    if metric == "factor_vae_metric":
        return sampler.codes(SETTINGS["factor_vae_score.num_variance_estimate"], RandomState(0))
    return sampler.points(SETTINGS[f"{metric}.num_train"], 16, RandomState(0)).codes


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("block", range(10))
def test_every_representation_has_every_score(block):
    for seed in range(10 * block, 10 * block + 10):
        scores = score(representation(seed), FACTORS, settings=SETTINGS)
        for name, value in scores.as_dict().items():
            assert value is not None, (seed, name, scores.by_metric[name].reason)
            lowest, highest = METRICS[name].bounds
            assert lowest - 1e-9 <= value <= highest + 1e-9, (seed, name, value)


@pytest.mark.slow
def test_a_thousand_representations_have_every_score():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(100, 1100):
            scores = score(representation(seed), FACTORS, settings=SETTINGS)
            for name, value in scores.as_dict().items():
                assert value is not None, (seed, name, scores.by_metric[name].reason)
                lowest, highest = METRICS[name].bounds
                assert lowest - 1e-9 <= value <= highest + 1e-9, (seed, name, value)


@pytest.mark.parametrize("metric", ["factor_vae_metric", "mig", "irs", "sap_score"])
def test_by_the_rule_the_score_is_the_librarys(metric):
    """It compares cases that the library can compute: at least two latents, in the precision that the rule selects."""
    compared = 0
    for seed in range(60):
        codes = representation(seed)
        drawn = drawn_latents(codes, metric)
        left = varying(drawn)
        if left.sum() < 2:
            continue
        kept = np.compress(left, codes, axis=1).astype(precision(np.compress(left, drawn, axis=1)))
        if np.abs(kept).max() > 1e100 or (kept.dtype == np.float64 and _underflows(kept)):
            continue  # the library's float64 itself over- or underflows
        ours = score(codes, FACTORS, metric, settings=_settings(metric))
        theirs = score(kept, FACTORS, metric, engine="library", settings=_settings(metric))
        if theirs[metric] is None:  # "Too many bins", which numpy before 2.1 did not raise
            assert "Too many bins" in theirs.by_metric[metric].reason
            continue
        assert ours[metric] == pytest.approx(theirs[metric], abs=METRICS[metric].tolerance + 1e-12), seed
        compared += 1
    assert compared > 20


def _settings(metric):
    return {name: value for name, value in SETTINGS.items() if name in METRICS[metric].settings}


def _underflows(codes):
    spans = np.stack([codes.var(axis=0), np.ptp(codes, axis=0)])
    return not (spans >= np.finfo(np.float64).tiny).all()
