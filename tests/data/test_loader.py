import numpy as np
import pytest
import torch

from disentanglement_challenge.data import named
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from utils_pytorch import DLIBDataset, get_dataset, get_loader


@pytest.fixture(autouse=True)
def numbered(monkeypatch):
    """Register 1000 images; the pixels of image i encode i in base 256."""
    images = np.zeros((1000, 8, 8, 3), np.uint8)
    images[..., 0] = (np.arange(1000) // 256)[:, None, None]
    images[..., 1] = (np.arange(1000) % 256)[:, None, None]
    data = IndexedGroundTruthData("numbered", images, [10, 100], ["tens", "rest"])
    monkeypatch.setitem(named.LOADERS, "numbered", lambda name, path: data)
    monkeypatch.setenv("AICROWD_DATASET_NAME", "numbered")


def numbers(batches):
    """Return the numbers of images from tensors [N, 3, 8, 8]."""
    pixels = torch.cat(list(batches))[:, :, 0, 0].double() * 255
    return (pixels[:, 0] * 256 + pixels[:, 1]).round().int().tolist()


def test_an_item_is_a_random_image_channels_first():
    dataset = DLIBDataset("numbered", seed=3, iterator_len=50)
    assert len(dataset) == 50
    item = dataset[0]
    assert item.shape == (3, 8, 8)
    assert item.dtype == torch.float32
    # The library draws the factors one after the other.
    state = np.random.RandomState(3)
    assert numbers([item[None]]) == [state.randint(10, size=1)[0] * 100 + state.randint(100, size=1)[0]]
    assert numbers([dataset[0][None]]) != numbers([dataset[0][None]])
    with pytest.raises(IndexError):
        dataset[50]


def test_the_default_name_is_the_environments():
    assert get_dataset(seed=1, iterator_len=7).name == "numbered"
    assert len(get_loader(batch_size=4, iterator_len=7)) == 2


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_repeats_with_its_seed_and_not_from_epoch_to_epoch(num_workers):
    def epochs(seed):
        loader = get_loader(batch_size=8, seed=seed, iterator_len=64, num_workers=num_workers)
        return [numbers(loader), numbers(loader)]

    first, again, other = epochs(0), epochs(0), epochs(1)
    assert first == again
    assert first[0] != first[1]
    assert first[0] != other[0]
    # Workers with the same stream would give every image twice; of 64 draws from 1000, about two coincide by chance.
    assert len(set(first[0])) > 50


def test_keywords_reach_the_loader():
    loader = get_loader(batch_size=5, iterator_len=12, drop_last=True, worker_init_fn=print)
    assert [len(batch) for batch in loader] == [5, 5]
    assert loader.worker_init_fn is print
