"""Compare each data set with disentanglement_lib's own class; both read the same tiny files in the official formats.

The library's classes hard-code the paths of their files and, except for dSprites, the sizes of their factors. A test
changes these two and nothing else.
"""

import os
from types import SimpleNamespace

import numpy as np
import official
import pytest
from disentanglement_lib.data.ground_truth import dummy_data, util
from numpy.random import RandomState

from disentanglement_challenge import library
from disentanglement_challenge.data import cars3d, dsprites, mpi3d, shapes3d, smallnorb
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.data.named import get_named_ground_truth_data


@pytest.fixture
def data_path(tmp_path, monkeypatch):
    monkeypatch.setenv("DISENTANGLEMENT_LIB_DATA", str(tmp_path))
    official.use_tiny_sizes(monkeypatch)
    return tmp_path


def library_dsprites(monkeypatch, data_path, name):
    monkeypatch.setattr(library.dsprites, "DSPRITES_PATH", str(official.write_dsprites(data_path)))
    monkeypatch.setattr(library.dsprites, "SCREAM_PATH", str(official.write_scream(data_path)))
    # The choices of the library's named_data.
    library_class, indices = {
        "dsprites_full": (library.dsprites.DSprites, [1, 2, 3, 4, 5]),
        "dsprites_noshape": (library.dsprites.DSprites, [2, 3, 4, 5]),
        "color_dsprites": (library.dsprites.ColorDSprites, [1, 2, 3, 4, 5]),
        "noisy_dsprites": (library.dsprites.NoisyDSprites, [1, 2, 3, 4, 5]),
        "scream_dsprites": (library.dsprites.ScreamDSprites, [1, 2, 3, 4, 5]),
    }[name]
    data = library_class(indices)
    data.full_factor_sizes = [1, *official.DSPRITES_SIZES]
    return data


def library_cars3d(monkeypatch, data_path, name):
    """Return the library's Cars3D over a few cars; its array has room for all 183, and the rest stays empty."""
    monkeypatch.setattr(library.cars3d, "CARS3D_PATH", str(official.write_cars(data_path / "cars")))
    data = library.cars3d.Cars3D()
    data.factor_sizes = [4, 24, official.CARS]
    data.state_space = util.SplitDiscreteStateSpace(data.factor_sizes, data.latent_factor_indices)
    return data


def library_smallnorb(monkeypatch, data_path, name):
    template = official.write_norb(data_path) / "smallnorb-{}-{}.mat"
    monkeypatch.setattr(library.norb, "SMALLNORB_TEMPLATE", str(template))
    tiny = official.NORB_SIZES
    sized = SimpleNamespace(
        StateSpaceAtomIndex=lambda sizes, features: util.StateSpaceAtomIndex(tiny, features),
        SplitDiscreteStateSpace=lambda sizes, indices: util.SplitDiscreteStateSpace(tiny, indices),
    )
    monkeypatch.setattr(library.norb, "util", sized)
    data = library.norb.SmallNORB()
    data.factor_sizes = tiny
    return data


def with_factor_sizes(data, sizes):
    """Set the sizes, and what the constructors of MPI3D and Shapes3D derive from them."""
    data.factor_sizes = sizes
    data.state_space = util.SplitDiscreteStateSpace(sizes, data.latent_factor_indices)
    data.factor_bases = np.prod(sizes) / np.cumprod(sizes)
    return data


def library_shapes3d(monkeypatch, data_path, name):
    monkeypatch.setattr(library.shapes3d, "SHAPES3D_PATH", str(official.write_shapes3d(data_path)))
    return with_factor_sizes(library.shapes3d.Shapes3D(), official.SHAPES3D_SIZES)


def library_mpi3d(monkeypatch, data_path, name):
    official.write_mpi3d(data_path, name)
    return with_factor_sizes(library.mpi3d.MPI3D(mode=name), official.MPI3D_SIZES)


def library_dummy(monkeypatch, data_path, name):
    return dummy_data.DummyData()


LIBRARY = {
    **dict.fromkeys(dsprites.SOURCES, library_dsprites),
    "cars3d": library_cars3d,
    "smallnorb": library_smallnorb,
    "shapes3d": library_shapes3d,
    **dict.fromkeys(("mpi3d_toy", "mpi3d_realistic", "mpi3d_real"), library_mpi3d),
    "dummy_data": library_dummy,
}


@pytest.mark.parametrize("name", LIBRARY)
def test_factors_and_observations_are_the_librarys(data_path, monkeypatch, name):
    library = LIBRARY[name](monkeypatch, data_path, name)
    ours = get_named_ground_truth_data(name)
    assert ours.num_factors == library.num_factors == len(ours.factor_names)
    assert list(ours.factors_num_values) == list(library.factors_num_values)
    assert list(ours.observation_shape) == list(library.observation_shape)
    our_state, library_state = RandomState(7), RandomState(7)
    # Several draws from one stream: one random number too many or too few would change the next draw.
    for num in (5, 64, 1, 200):
        factors, observations = ours.sample(num, our_state)
        library_factors, library_observations = library.sample(num, library_state)
        np.testing.assert_array_equal(factors, library_factors)
        assert observations.shape == library_observations.shape
        # MPI3D divides in float64 and the others in float32; a representation function gets float32.
        np.testing.assert_array_equal(observations.astype(np.float32), library_observations.astype(np.float32))
    assert our_state.randint(2**31) == library_state.randint(2**31)


@pytest.mark.parametrize("name", ["dsprites_full", "cars3d", "shapes3d", "mpi3d_real"])
def test_every_combination_is_the_image_that_the_library_shows(data_path, monkeypatch, name):
    library = LIBRARY[name](monkeypatch, data_path, name)
    ours = get_named_ground_truth_data(name)
    factors = ours.index_to_factors(np.arange(len(ours.images)))
    assert len(np.unique(factors, axis=0)) == len(ours.images)
    expected = library.sample_observations_from_factors(factors, RandomState(0))
    np.testing.assert_array_equal(ours.observations(np.arange(len(ours.images))), expected.astype(np.float32))


def test_smallnorbs_index_is_the_librarys(data_path, monkeypatch):
    """The index includes the toy's instance, which is not a latent factor."""
    library = library_smallnorb(monkeypatch, data_path, "smallnorb")
    ours = get_named_ground_truth_data("smallnorb")
    factors = np.stack(np.unravel_index(np.arange(96), official.NORB_SIZES), axis=1)
    np.testing.assert_array_equal(ours.factors_to_index(factors), library.index.features_to_index(factors))
    np.testing.assert_array_equal(ours.index_to_factors(ours.factors_to_index(factors)), factors)
    np.testing.assert_array_equal(ours.observations(np.arange(96))[..., 0], library.images.astype(np.float32))
    assert ours.images.min() < 0
    assert ours.images.max() > 255


def without_pixels(name, sizes, **arguments):
    return IndexedGroundTruthData(
        name,
        np.broadcast_to(np.zeros((1, 64, 64, 1), np.uint8), (np.prod(sizes), 64, 64, 1)),
        sizes,
        sizes,
        **arguments,
    )


@pytest.mark.parametrize(
    ("sizes", "library_sizes"),
    [
        (dsprites.FACTOR_SIZES, [1, 3, 6, 40, 32, 32]),
        (cars3d.FACTOR_SIZES, [4, 24, 183]),
        (shapes3d.FACTOR_SIZES, [10, 10, 10, 8, 4, 15]),
        (mpi3d.FACTOR_SIZES_BY_NUM_IMAGES[460_800], [4, 4, 2, 3, 3, 40, 40]),
        (mpi3d.FACTOR_SIZES_BY_NUM_IMAGES[1_036_800], [6, 6, 2, 3, 3, 40, 40]),
        (smallnorb.FACTOR_SIZES, [5, 10, 9, 18, 6]),
    ],
)
def test_the_index_at_full_size_is_the_librarys(sizes, library_sizes):
    """The reference is the arithmetic of the library's classes (factor_bases) on their hard-coded sizes."""
    ours = without_pixels("full", sizes)
    factors = np.stack([RandomState(i).randint(size, size=1000) for i, size in enumerate(library_sizes)], axis=1)
    bases = np.prod(library_sizes) / np.cumprod(library_sizes)
    expected = np.array(np.dot(factors, bases), dtype=np.int64)
    np.testing.assert_array_equal(ours.factors_to_index(factors[:, -len(sizes) :]), expected)


def test_cars_are_numbered_by_their_names(data_path, monkeypatch):
    library_cars3d(monkeypatch, data_path, "cars3d")
    data = get_named_ground_truth_data("cars3d")
    listing = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listing(path)[::-1])
    again = get_named_ground_truth_data("cars3d")
    np.testing.assert_array_equal(data.images, again.images)
    means = data.images.reshape(96, official.CARS, -1)[0]
    small = cars3d._read_car(data_path / "cars" / "car_001_mesh.mat")
    np.testing.assert_array_equal(means[1], small[0, 0].reshape(-1))


def test_mpi3d_real_complex_has_mpi3ds_format(data_path):
    """The library has no class for it; its file has MPI3D's format."""
    official.write_mpi3d(data_path, "mpi3d_real_complex")
    data = get_named_ground_truth_data("mpi3d_real_complex")
    np.testing.assert_array_equal(data.images, official.pixels(official.MPI3D_IMAGES, 64, 64, 3))
