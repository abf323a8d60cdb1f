"""The points that metrics are computed on: the library's draws on a full grid, otherwise rows."""

from dataclasses import replace

import numpy as np
import pytest
from hand_made import noisy_codes
from numpy.random import RandomState
from small_data import codes_of_every_kind, representation_of, small_ground_truth_data

from disentanglement_challenge.data.sampling import GridSampler, RowSampler
from disentanglement_challenge.library import utils
from disentanglement_challenge.metrics import RECORDS
from disentanglement_challenge.metrics.metric import Result

OF_POINTS = [record for record in RECORDS.values() if record.draws]


def _quick(record, num=300):
    settings = {**record.official(), **{name: num - 100 * k for k, name in enumerate(record.draws)}}
    return {
        name: [num] if isinstance(value, list) and isinstance(value[0], int) else value
        for name, value in settings.items()
    }


@pytest.mark.parametrize("record", OF_POINTS, ids=lambda record: record.name)
def test_points_of_a_full_grid_are_the_librarys(record):
    data, codes = small_ground_truth_data(), codes_of_every_kind()[:, :-2]
    drawn = []
    spy = replace(record, compute=lambda *points, **settings: drawn.extend(points) or Result({}), every_latent=True)
    settings = _quick(record)
    spy.results(GridSampler(data, representation_of(codes)), 4, settings)
    random_state = RandomState(4)
    assert len(drawn) == len(record.draws)
    for points, name in zip(drawn, record.draws, strict=True):
        mus, ys = utils.generate_batch_factor_code(data, representation_of(codes), settings[name], random_state, 16)
        np.testing.assert_array_equal(points.codes, mus.T)
        np.testing.assert_array_equal(points.factors, ys.T)


# IRS counts a row that is drawn twice once, which arrays cannot show.
@pytest.mark.parametrize("record", [r for r in OF_POINTS if r.name != "irs"], ids=lambda record: record.name)
def test_rows_that_are_no_full_grid_are_drawn_themselves(record):
    codes, factors = noisy_codes(150)
    sampler = RowSampler(codes, factors, ["a", "b", "c"])
    settings = _quick(record)
    result = record.results(sampler, 4, settings)
    random_state = RandomState(4)
    arrays = []
    for name in record.draws:
        rows = random_state.randint(len(codes), size=settings[name])
        arrays += [codes[rows], factors[rows]]
    expected = record.of_arrays(*arrays)
    values = {key: value for key, value in result.values.items() if key != "test_seen_in_training"}
    assert values.keys() == expected.values.keys()
    for key, value in values.items():
        np.testing.assert_allclose(value, expected.values[key], rtol=1e-9, atol=1e-12, err_msg=key)
    if result.matrix is not None:
        np.testing.assert_allclose(result.matrix, expected.matrix, atol=1e-12)


@pytest.mark.parametrize("record", RECORDS.values(), ids=lambda record: record.name)
def test_a_metric_is_repeatable_and_leaves_numpys_generator_alone(record):
    settings = _quick(record, 220)
    for name in settings:
        if name.startswith("factor_vae") or name.startswith("beta_vae"):
            settings[name] = 40
    data, codes = small_ground_truth_data(), codes_of_every_kind()[:, :3]
    settings = {
        **settings,
        **{name: 1 for name in settings if name.endswith("n_experiment")},
        **{name: 10 for name in settings if name.endswith("per_class")},
    }
    np.random.seed(11)
    before = np.random.get_state()[1].copy()
    scores = []
    for _ in range(2):
        scores.append(record.results(GridSampler(data, representation_of(codes)), 2, settings).values)
        np.random.seed(11)
    np.testing.assert_array_equal(before, np.random.get_state()[1])
    assert scores[0].keys() == scores[1].keys()
    for key, value in scores[0].items():
        np.testing.assert_array_equal(value, scores[1][key], err_msg=key)


def test_every_record_says_what_a_page_needs():
    labels = [record.label for record in RECORDS.values()]
    assert len(set(labels)) == len(labels)
    words = [word for record in RECORDS.values() for word in (record.name, *record.aliases)]
    assert len(set(words)) == len(words)
    for record in RECORDS.values():
        assert record.explanation.endswith("."), record.name
        assert record.bounds[0] < record.bounds[1]
        assert record.collapsed is None or record.bounds[0] <= record.collapsed <= record.bounds[1]
        assert (record.tolerance is None) == (not record.library), record.name
        record.check(record.official())
