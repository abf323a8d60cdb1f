import numpy as np
import pytest
import torch
from disentanglement_lib.data.ground_truth.util import SplitDiscreteStateSpace, StateSpaceAtomIndex
from messages import facts

from disentanglement_challenge import library  # noqa: F401 (lets the library's TensorFlow half be imported)
from disentanglement_challenge.data import store
from disentanglement_challenge.data.batches import random_batches, to_network
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.data.pixels import to_floats
from disentanglement_challenge.errors import DataError

SIZES = [3, 2, 4]


@pytest.fixture
def data():
    images = np.random.RandomState(0).randint(256, size=(24, 8, 8, 3)).astype(np.uint8)
    return IndexedGroundTruthData("random", images, SIZES, ["a", "b", "c"])


def test_factors_are_drawn_from_the_librarys_stream(data):
    space = SplitDiscreteStateSpace(SIZES, [0, 1, 2])
    ours, theirs = np.random.RandomState(3), np.random.RandomState(3)
    for num in (1, 16, 64):
        np.testing.assert_array_equal(data.sample_factors(num, ours), space.sample_latent_factors(num, theirs))
        data.sample_observations(num, ours)
        space.sample_latent_factors(num, theirs)


def test_the_index_is_the_librarys(data):
    factors = data.index_to_factors(np.arange(24))
    theirs = StateSpaceAtomIndex(SIZES, factors)
    np.testing.assert_array_equal(data.factors_to_index(factors), theirs.features_to_index(factors))
    np.testing.assert_array_equal(data.factors_to_index(factors), np.arange(24))


def test_observations_are_the_images_in_0_to_1(data):
    factors = np.array([[2, 1, 3], [0, 0, 0]])
    observations = data.sample_observations_from_factors(factors, np.random.RandomState(0))
    assert observations.dtype == np.float32
    # disentanglement_lib's MPI3D divides in float64, and the representation function casts to float32.
    np.testing.assert_array_equal(observations, (data.images[[23, 0]] / 255.0).astype(np.float32))
    assert data.observation_shape == [8, 8, 3]
    assert data.num_factors == 3


@pytest.mark.parametrize(
    ("images", "sizes"),
    [
        (np.zeros((23, 8, 8, 3), np.uint8), SIZES),
        (np.zeros((24, 8, 8), np.uint8), SIZES),
        (np.zeros((24, 8, 8, 3), np.float32), SIZES),
    ],
)
def test_images_that_are_not_one_for_each_combination(images, sizes):
    with pytest.raises(DataError, match="wrong"):
        IndexedGroundTruthData("wrong", images, sizes, ["a", "b", "c"])


def test_batches_are_uniform_with_replacement_and_repeat_with_the_seed(data):
    first, again = (random_batches(data, 50, np.random.default_rng(1)) for _ in range(2))
    counts = np.zeros(24)
    flat = data.images.reshape(24, -1)
    for _ in range(40):
        batch = next(first)
        assert torch.equal(batch, next(again))
        assert batch.dtype == torch.uint8
        for image in batch.numpy().reshape(50, -1):
            counts[(flat == image).all(1)] += 1
    assert counts.sum() == 2000
    # Each count is binomial(2000, 1/24): mean 83, standard deviation 9.
    assert np.abs(counts - 2000 / 24).max() < 5 * 9


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
def test_batches_of_a_large_file_are_the_same(tmp_path, monkeypatch, dtype):
    """Above a certain size, images are read from the file by other calls."""
    np.save(tmp_path / "images.npy", np.random.RandomState(0).randint(-99, 99, size=(24, 8, 8, 3)).astype(dtype))
    mapped = IndexedGroundTruthData("mapped", np.load(tmp_path / "images.npy", mmap_mode="r"), SIZES, ["a", "b", "c"])
    small = random_batches(mapped, 50, np.random.default_rng(1))
    expected = [next(small) for _ in range(3)]
    monkeypatch.setattr(store, "_MAPPED_BYTES", 100)
    large = random_batches(mapped, 50, np.random.default_rng(1))
    for batch in expected:
        read = next(large)
        assert read.dtype == batch.dtype
        assert torch.equal(read, batch)
    for part in (mapped.images[10:], mapped.images[::-2], mapped.images[:, 1:]):
        np.testing.assert_array_equal(store.take_images(part, np.array([3, 1])), np.array(part)[[3, 1]])
    with (tmp_path / "images.npy").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(DataError, match=facts(tmp_path / "images.npy", "shorter")):
        next(large)
    (tmp_path / "images.npy").unlink()
    with pytest.raises(DataError, match=facts(tmp_path / "images.npy", "No such file")):
        next(random_batches(mapped, 50, np.random.default_rng(1)))


def test_a_network_is_given_channels_first_floats(data):
    images = torch.tensor(data.images[:5])
    given = to_network(images, torch.device("cpu"))
    assert given.shape == (5, 3, 8, 8)
    np.testing.assert_array_equal(given.numpy(), np.moveaxis(data.images[:5], 3, 1) / np.float32(255))


@pytest.mark.parametrize("pixels", [np.arange(256, dtype=np.uint8), np.arange(-(2**15), 2**15, dtype=np.int16)])
def test_pixels_become_floats_as_numpy_divides(pixels):
    for shaped in (pixels, pixels.reshape(2, -1), pixels.reshape(2, -1).T, pixels[::3], pixels[:0]):
        floats = to_floats(shaped)
        assert floats.dtype == np.float32
        np.testing.assert_array_equal(floats, np.divide(shaped, np.float32(255), dtype=np.float32))
