"""No representation makes a metric fail, warn, or return something that is not a number."""

import warnings

import numpy as np
import pytest
from hand_made import grid
from numpy.random import RandomState
from small_data import NUM_IMAGES, representation_of, small_ground_truth_data

from disentanglement_challenge.data.sampling import GridSampler, RowSampler
from disentanglement_challenge.errors import ScoreError
from disentanglement_challenge.metrics import RECORDS

DTYPES = [np.float16, np.float32, np.float64]


def _latent(kind, dtype, random_state):
    factors = grid()
    plain = factors[:, random_state.randint(4)] + random_state.choice([0, 0.3]) * random_state.normal(size=NUM_IMAGES)
    info = np.finfo(dtype)
    value = dtype(random_state.choice([0.1, 1, -3, 0]))
    if kind == "plain":
        return plain.astype(dtype)
    if kind == "constant":
        return np.full(NUM_IMAGES, value)
    if kind == "few ulps":
        return value + dtype(np.spacing(np.abs(value))) * np.round(plain).astype(dtype)
    if kind == "huge":
        return (plain / 8 * float(info.max)).astype(dtype)
    if kind == "denormal":
        return np.round(plain).astype(dtype) * info.smallest_subnormal
    if kind == "tiny":
        return plain.astype(dtype) * info.tiny
    if kind == "saturated":
        return np.clip(plain, 1, 2).astype(dtype)
    if kind == "one point":
        return (np.arange(NUM_IMAGES) == 17).astype(dtype)
    assert kind == "far"
    return dtype(1e4) + plain.astype(dtype) * dtype(1e-2)


KINDS = ["plain", "constant", "few ulps", "huge", "denormal", "tiny", "saturated", "one point", "far"]


def _codes(seed):
    """Return latents of random kinds, some of them copies; some representations have a single kind."""
    random_state = RandomState(seed)
    dtype = DTYPES[random_state.randint(3)]
    kinds = random_state.choice(KINDS, size=random_state.randint(1, 3))
    latents = [
        _latent(kinds[random_state.randint(len(kinds))], dtype, random_state) for _ in range(random_state.randint(1, 6))
    ]
    if random_state.randint(3) == 0:
        latents += latents[:2]
    return np.stack(latents, axis=1)


def _quick(record):
    few = {"num_variance_estimate": 60, "batch_size": 8, "n_experiment": 1, "num_test_points_per_class": 8}
    settings = {}
    for name, value in record.official().items():
        last = name.rpartition(".")[2]
        if isinstance(value, list) and isinstance(value[0], int):
            settings[name] = [120]
        elif last in few:
            settings[name] = few[last]
        elif last in ("num_train", "num_test", "num_eval"):
            settings[name] = 40 if name.startswith(("factor_vae", "beta_vae")) else 120
        else:
            settings[name] = value
    return settings


def _check(record, result):
    for key, value in result.values.items():
        if key != "activity":  # its variances exceed float64 for huge latents
            assert np.isfinite(value).all(), (key, value)
    if record.key in result.values:
        low, high = record.bounds
        assert low - 1e-9 <= result.values[record.key] <= high + 1e-9
    if result.matrix is not None and not np.isnan(record.missing):
        assert np.isfinite(result.matrix).all()


@pytest.mark.parametrize("record", RECORDS.values(), ids=lambda record: record.name)
def test_no_representation_makes_a_metric_fail(record):
    _try(record, range(24))


@pytest.mark.slow
@pytest.mark.parametrize("record", RECORDS.values(), ids=lambda record: record.name)
def test_no_representation_of_a_thousand_makes_a_metric_fail(record):
    _try(record, range(24, 1024))


def _try(record, seeds):
    data, settings = small_ground_truth_data(), _quick(record)
    scored = 0
    for seed in seeds:
        codes = _codes(seed)
        assert np.isfinite(codes).all()
        for sampler in (
            GridSampler(data, representation_of(codes)),
            RowSampler(codes, grid(), data.factor_names) if record.on_rows and seed % 4 == 0 else None,
        ):
            if sampler is None:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                try:
                    result = record.results(sampler, seed, settings)
                except ScoreError:
                    continue
            try:
                _check(record, result)
            except AssertionError as error:
                raise AssertionError(f"{record.name}, seed {seed}: {error}") from error
            scored += 1
    assert scored > 2 * len(seeds) // 3


@pytest.mark.parametrize("record", RECORDS.values(), ids=lambda record: record.name)
def test_codes_of_which_none_varies(record):
    codes = np.tile(np.array([0.1, -0.25, 0.0], dtype=np.float32), (NUM_IMAGES, 1))
    result = record.results(GridSampler(small_ground_truth_data(), representation_of(codes)), 0, _quick(record))
    _check(record, result)
    if record.collapsed is not None:
        assert result.values[record.key] == pytest.approx(record.collapsed, abs=1e-8)


@pytest.mark.parametrize("record", RECORDS.values(), ids=lambda record: record.name)
def test_float16_is_computed_as_float64(record):
    codes = (grid() @ RandomState(0).normal(size=(4, 5))).astype(np.float16)
    data, settings = small_ground_truth_data(), _quick(record)
    scores = [
        record.results(GridSampler(data, representation_of(array)), 0, settings).values
        for array in (codes, codes.astype(np.float64))
    ]
    for key, value in scores[1].items():
        np.testing.assert_allclose(scores[0][key], value, rtol=1e-9, atol=1e-12, err_msg=key)
