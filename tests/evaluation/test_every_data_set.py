"""Train on, export and score every data set by name, with both engines, from tiny files in the official formats."""

import shutil

import numpy as np
import official
import pytest
import torch
from messages import facts
from numpy.random import RandomState

from disentanglement_challenge import library
from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.data.batches import random_batches, to_network
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.data.named import get_named_ground_truth_data
from disentanglement_challenge.data.sampling import GridSampler
from disentanglement_challenge.errors import DataError
from disentanglement_challenge.evaluation.harness import evaluate
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.export.model_file import import_model
from disentanglement_challenge.metrics import METRICS
from disentanglement_challenge.training.run import train_and_export

TRAINING = [
    "model.training_steps = 2",
    "model.batch_size = 8",
    "model.eval_steps = 1",
    "encoder.num_latent = 4",
    "conv_encoder.width = 0.25",
    "deconv_decoder.width = 0.25",
    "fc_discriminator.width = 0.02",
]
FEW_POINTS = [
    "factor_vae_score.num_variance_estimate = 64",
    "factor_vae_score.num_train = 12",
    "factor_vae_score.num_eval = 8",
    "factor_vae_score.batch_size = 16",
    "dci.num_train = 48",
    "dci.num_test = 24",
    "sap_score.num_train = 48",
    "sap_score.num_test = 24",
    "mig.num_train = 48",
    "irs.num_train = 48",
    "activity.num_train = 48",
]

WRITE = {
    "dsprites_full": official.write_dsprites,
    "dsprites_noshape": official.write_dsprites,
    "color_dsprites": official.write_dsprites,
    "noisy_dsprites": official.write_dsprites,
    "scream_dsprites": lambda path: (official.write_dsprites(path), official.write_scream(path)),
    "cars3d": lambda path: official.write_cars(path / "cars"),
    "smallnorb": official.write_norb,
    "shapes3d": official.write_shapes3d,
    "mpi3d_realistic": lambda path: official.write_mpi3d(path, "mpi3d_realistic"),
    "mpi3d_real_complex": lambda path: official.write_mpi3d(path, "mpi3d_real_complex"),
    "dummy_data": lambda path: None,
}
ONE_CHANNEL = {"dsprites_full", "dsprites_noshape", "smallnorb", "dummy_data"}
RANDOM = {"color_dsprites", "noisy_dsprites", "scream_dsprites", "dummy_data"}


@pytest.fixture
def data_path(tmp_path, monkeypatch):
    monkeypatch.setenv("DISENTANGLEMENT_LIB_DATA", str(tmp_path))
    official.use_tiny_sizes(monkeypatch)
    return tmp_path


def train(path, *bindings):
    experiment = Experiment(path / "e")
    with gin_configuration(["mpi3d_embedded.gin"], [*TRAINING, *bindings]):
        train_and_export(experiment, overwrite=True)
    return experiment


def score(experiment, *bindings):
    scores = evaluate(experiment, [], [*FEW_POINTS, *bindings])
    return {metric: scores.by_metric[metric].value for metric in METRICS}


@pytest.mark.parametrize("name", WRITE)
def test_a_name_is_all_it_takes(data_path, name):
    WRITE[name](data_path)
    experiment = train(data_path, f"dataset.name = {name!r}")
    channels = 1 if name in ONE_CHANNEL else 3
    data = get_named_ground_truth_data(name)
    assert isinstance(data, IndexedGroundTruthData) == (name not in RANDOM)
    images = to_network(next(random_batches(data, 5, np.random.default_rng(0))), torch.device("cpu"))
    assert images.shape == (5, channels, 64, 64)
    assert import_model(experiment.model)(images).shape == (5, 4)
    if name in ("cars3d", "shapes3d", "mpi3d_real_complex", "scream_dsprites"):
        # The run records the data set's name, so scoring needs none.
        assert len(score(experiment)) == 5


@pytest.mark.parametrize("name", ["dsprites_noshape", "smallnorb", "color_dsprites"])
def test_the_fast_engine_scores_what_is_drawn_at_random_as_the_library_does(data_path, name):
    """Factors that are not latent are part of an image's index; noise is not, so each observation is encoded."""
    WRITE[name](data_path)
    experiment = train(data_path, f"dataset.name = {name!r}")
    shutil.copytree(experiment.path, data_path / "again")
    fast = score(experiment)
    library = score(Experiment(data_path / "again"), "evaluation.engine = 'library'")
    assert fast["factor_vae_metric"] == library["factor_vae_metric"]
    assert fast["mig"] == pytest.approx(library["mig"], abs=1e-9)
    assert fast["irs"] == pytest.approx(library["irs"], abs=1e-6)
    assert fast["sap_score"] == pytest.approx(library["sap_score"], abs=1e-3)


@pytest.mark.parametrize("name", [*sorted(RANDOM), "dsprites_noshape", "smallnorb"])
def test_the_variances_are_the_librarys_and_so_is_the_stream_after_them(data_path, name):
    """Ours observes in batches; the library observes all points at once."""
    WRITE[name](data_path)
    data = get_named_ground_truth_data(name)
    ours, theirs = RandomState(0), RandomState(0)
    arguments = data, lambda observations: observations[:, 30:34, 20].reshape(len(observations), -1), 150
    codes = GridSampler(arguments[0], arguments[1]).codes(arguments[2], ours)
    variances = np.var(codes, axis=0, ddof=1)
    np.testing.assert_array_equal(variances, library.factor_vae._compute_variances(*arguments, theirs))
    assert variances.any()
    assert ours.uniform() == theirs.uniform()


@pytest.mark.parametrize("name", sorted(RANDOM))
def test_random_observations_repeat_with_the_generator(data_path, name):
    WRITE[name](data_path)
    data = get_named_ground_truth_data(name)
    first, again = (random_batches(data, 6, np.random.default_rng(3)) for _ in range(2))
    one, two = next(first), next(first)
    np.testing.assert_array_equal(one, next(again))
    np.testing.assert_array_equal(two, next(again))
    assert (one != two).any()
    assert one.min() >= 0
    assert one.max() <= 1
    np.testing.assert_array_equal(to_network(one, torch.device("cpu")), one.permute(0, 3, 1, 2))


def test_a_generators_state_decides_the_next_batch(data_path):
    """The generator's state, which a checkpoint keeps, is the only state."""
    WRITE["noisy_dsprites"](data_path)
    data = get_named_ground_truth_data("noisy_dsprites")
    generator = np.random.default_rng(3)
    batches = random_batches(data, 6, generator)
    next(batches)
    state = generator.bit_generator.state
    expected = next(batches)
    later = np.random.default_rng(0)
    later.bit_generator.state = state
    np.testing.assert_array_equal(next(random_batches(data, 6, later)), expected)


def test_images_without_factors_are_trained_on_and_not_scored(data_path):
    np.savez(data_path / "mine.npz", images=official.pixels(20, 64, 64, 3))
    mine = f"folder.path = '{data_path}/mine.npz'"
    experiment = train(data_path, "dataset.name = 'folder'", mine)
    assert experiment.model.exists()
    with pytest.raises(DataError, match=facts("data set 'folder'", "no factors", "train_pytorch.py")):
        evaluate(experiment, [], [mine])
    assert not experiment.scores.exists()


def test_a_users_data_are_scored_like_any(data_path):
    factors = np.stack(np.unravel_index(np.arange(24), [4, 2, 3]), axis=1)
    np.savez(data_path / "mine.npz", images=official.pixels(24, 64, 64), factors=factors)
    mine = f"folder.path = '{data_path}/mine.npz'"
    experiment = train(data_path, "dataset.name = 'folder'", mine)
    assert len(score(experiment, mine)) == 5
