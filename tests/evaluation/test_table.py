import os

import numpy as np
import pytest
import torch
from messages import facts
from numpy.random import RandomState
from small_data import (
    NUM_IMAGES,
    codes_of_every_kind,
    indices_of,
    network,
    representation_of,
    small_ground_truth_data,
)

from disentanglement_challenge.data import store
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.data.sampling import GridSampler
from disentanglement_challenge.errors import DataError, OutputError, RepresentationError
from disentanglement_challenge.evaluation import table as table_module
from disentanglement_challenge.evaluation.table import (
    IndexOnlyData,
    RepresentationTable,
    sampled_indices,
)
from disentanglement_challenge.export.representor import module_representor
from disentanglement_challenge.library import utils
from disentanglement_challenge.metrics import RECORDS


@pytest.mark.parametrize(("num_points", "batch_size"), [(100, 16), (96, 16), (5, 16), (1, 1)])
def test_points_are_the_librarys_bit_for_bit_and_in_its_memory_order(num_points, batch_size):
    data = small_ground_truth_data()
    ours, theirs = RandomState(0), RandomState(0)
    points = GridSampler(data, network).points(num_points, batch_size, ours)
    library_mus, library_ys = utils.generate_batch_factor_code(data, network, num_points, theirs, batch_size)
    for our_array, library_array in ((points.codes.T, library_mus), (points.factors.T, library_ys)):
        np.testing.assert_array_equal(our_array, library_array)
        assert our_array.dtype == library_array.dtype
        assert our_array.strides == library_array.strides or num_points == 1
    assert ours.randint(1 << 30) == theirs.randint(1 << 30)


def test_index_only_data_draws_the_same_images_as_the_data_itself():
    data = small_ground_truth_data()
    factors, indices = IndexOnlyData(data).sample(50, RandomState(4))
    expected_factors, observations = data.sample(50, RandomState(4))
    np.testing.assert_array_equal(factors, expected_factors)
    np.testing.assert_array_equal(indices, indices_of(observations))


def test_sampled_indices_are_the_images_that_the_metric_encodes():
    data = small_ground_truth_data()
    asked = set()

    def representation_function(observations):
        asked.update(indices_of(observations).tolist())
        return representation_of(codes_of_every_kind())(observations)

    metric = RECORDS["factor_vae_metric"]
    small = {"batch_size": 4, "num_train": 5, "num_eval": 3, "num_variance_estimate": 10}
    settings = {**metric.official(), **{f"factor_vae_score.{name}": value for name, value in small.items()}}
    metric.results(GridSampler(data, representation_function), 0, settings)
    found = sampled_indices(data, lambda sampler: metric.draw_only(sampler, 0, settings))
    assert found.tolist() == sorted(asked)
    assert 0 < len(found) < NUM_IMAGES


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_needed_image_is_encoded_once_and_found_again(dtype, tmp_path):
    data, codes = small_ground_truth_data(), codes_of_every_kind(dtype)
    encoded = []

    def representation_function(observations):
        assert observations.dtype == np.float32
        encoded.extend(indices_of(observations).tolist())
        return codes[indices_of(observations)]

    needed = RandomState(0).randint(NUM_IMAGES, size=70)
    with RepresentationTable(data, representation_function, needed, batch_size=7, folder=tmp_path) as table:
        assert encoded == sorted(set(needed.tolist()))
        assert len(table) == len(encoded)
        assert table.num_latent == codes.shape[1]
        found = table.lookup(needed)
        np.testing.assert_array_equal(found, codes[needed])
        assert found.dtype == dtype
        missing = np.setdiff1d(np.arange(NUM_IMAGES), needed)[:1]
        with pytest.raises(KeyError, match=facts(f"image {missing[0]}", "table")):
            table.lookup(missing)
        # The file has no name, so it cannot be left behind.
        assert list(tmp_path.iterdir()) == []


def test_metrics_on_the_table_equal_metrics_on_the_images():
    data, representation_function = small_ground_truth_data(), representation_of(codes_of_every_kind())

    metric = RECORDS["mig"]
    settings = {**metric.official(), "mig.num_train": 200}
    needed = sampled_indices(data, lambda sampler: metric.draw_only(sampler, 0, settings))
    with RepresentationTable(data, representation_function, needed) as table:
        scores, matrix = metric.results(GridSampler(table.index_data, table.lookup), 0, settings)
    expected_scores, expected_matrix = metric.results(GridSampler(data, representation_function), 0, settings)
    assert scores == expected_scores
    np.testing.assert_array_equal(matrix, expected_matrix)


def _resident_file_bytes():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssFile"))


def test_no_more_of_the_table_and_the_images_than_the_limit_is_in_memory(tmp_path, monkeypatch):
    # A table of 256 MB over a memory-mapped image file of 64 MB, and a limit of 16 MB.
    monkeypatch.setattr(store, "_MAPPED_BYTES", 1 << 20)
    num_images, num_latent, limit = 16384, 4096, 16 << 20
    path = tmp_path / "images.npy"
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(num_images, 64, 64, 1))[:] = 7
    data = IndexedGroundTruthData("flat", np.load(path, mmap_mode="r"), [num_images], ["a"])
    before = _resident_file_bytes()
    most = 0

    def representation_function(observations):
        return np.ones((len(observations), num_latent), dtype=np.float32)

    with RepresentationTable(
        data, representation_function, np.arange(num_images), 256, memory_limit=limit, folder=tmp_path
    ) as table:
        after_encoding = _resident_file_bytes()
        random_state = RandomState(0)
        for _ in range(200):
            table.lookup(random_state.randint(num_images, size=64))
            most = max(most, _resident_file_bytes())
    slack = 8 << 20
    assert after_encoding - before < slack
    assert most - before < limit + slack


def test_results_do_not_depend_on_the_memory_limit():
    data, codes = small_ground_truth_data(), codes_of_every_kind()
    needed = np.arange(NUM_IMAGES)
    with RepresentationTable(data, representation_of(codes), needed, memory_limit=1) as table:
        np.testing.assert_array_equal(table.lookup(needed[::-1]), codes[::-1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_representation_that_is_not_finite_is_named_by_latent_and_image(bad):
    codes = codes_of_every_kind()
    codes[[30, 50], 2] = bad
    codes[50, 4] = bad
    message = facts(f"2 of {codes.shape[1]} latents", "(2, 4)", "finite", "image 30")
    with pytest.raises(RepresentationError, match=message):
        RepresentationTable(small_ground_truth_data(), representation_of(codes), np.arange(NUM_IMAGES))


@pytest.mark.parametrize(
    ("representation_function", "said"),
    [
        (lambda observations: observations, ["(120, 8, 8, 1)", "(120, num_latent)"]),
        (lambda observations: np.zeros(len(observations)), ["(120,)", "(120, num_latent)"]),
        (lambda observations: np.zeros((1, 4)), ["(1, 4)", "(120, num_latent)"]),
        (lambda observations: np.zeros((len(observations), 0)), ["(120, 0)", "(120, num_latent)"]),
        (lambda observations: np.zeros((len(observations), 4), dtype=complex), ["complex128", "floating point"]),
    ],
)
def test_what_is_not_a_representation_is_refused(representation_function, said):
    with pytest.raises(RepresentationError, match=facts(*said)):
        RepresentationTable(small_ground_truth_data(), representation_function, np.arange(NUM_IMAGES))


def test_a_representation_that_changes_width_is_refused():
    def representation_function(observations):
        return np.zeros((len(observations), 4 if indices_of(observations)[0] < 64 else 5), dtype=np.float32)

    with pytest.raises(RepresentationError, match=facts("4 latents of float32", "5 of float32", "image 64")):
        RepresentationTable(small_ground_truth_data(), representation_function, np.arange(NUM_IMAGES), batch_size=32)


def test_a_disk_that_is_too_small_is_noticed_before_it_is_filled(monkeypatch, tmp_path):
    usage = table_module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(table_module.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(OutputError, match=facts(tmp_path, "0.00 GB")):
        RepresentationTable(small_ground_truth_data(), network, np.arange(NUM_IMAGES), folder=tmp_path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_disk_that_fills_up_on_the_way_gives_no_table(monkeypatch, tmp_path):
    full = open("/dev/full", "r+b", buffering=0)  # noqa: SIM115 (the table closes it)
    monkeypatch.setattr(table_module.tempfile, "TemporaryFile", lambda **_: full)
    with pytest.raises(OutputError, match=facts(tmp_path, "No space left on device")):
        RepresentationTable(small_ground_truth_data(), network, np.arange(NUM_IMAGES), folder=tmp_path)
    assert full.closed


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(OutputError, match=facts(tmp_path / "nowhere")):
        RepresentationTable(small_ground_truth_data(), network, np.arange(3), folder=tmp_path / "nowhere")


def test_no_images_are_no_table():
    with pytest.raises(RepresentationError, match="no images"):
        RepresentationTable(small_ground_truth_data(), network, np.arange(0))


class Pixels:
    """A representation that accepts bytes like one on a GPU, but computes on the CPU."""

    takes_pixels = True

    def __init__(self, module):
        self._representor = module_representor(module)
        self.prepare = self._representor.prepare

    def __call__(self, images):
        raise AssertionError("floats were sent")

    def encode_pixels(self, prepared):
        assert prepared.dtype == torch.uint8
        return self._representor.encode_pixels(prepared)


def test_bytes_that_are_divided_on_the_device_give_the_same_codes():
    """Parts are read ahead in the order of the images; the last part is shorter than the others."""
    images = np.random.default_rng(5).integers(256, size=(50, 16, 16, 3), dtype=np.uint8)
    images.flags.writeable = False  # like a map of a file
    data = IndexedGroundTruthData("noise", images, [50], ["index"])
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 16), torch.nn.Flatten())
    indices = np.arange(1, 50)
    with (
        RepresentationTable(data, module_representor(module), indices, batch_size=8) as floats,
        RepresentationTable(data, Pixels(module), indices, batch_size=8) as pixels,
    ):
        assert np.array_equal(pixels.lookup(indices), floats.lookup(indices))


def test_an_image_that_cannot_be_read_ahead_is_an_error_of_the_reading(tmp_path):
    class Broken(Pixels):
        def __init__(self):
            pass

        def prepare(self, pixels):
            raise DataError("the file is gone")

    data = IndexedGroundTruthData("zeros", np.zeros((4, 2, 2, 3), np.uint8), [4], ["index"])
    with pytest.raises(DataError, match="the file is gone"):
        RepresentationTable(data, Broken(), np.arange(4))
