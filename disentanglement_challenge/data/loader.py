"""The starter kit's PyTorch data set and loader, which draw one random image per item.

Training here draws whole batches by index instead (`training.batches`). These are for scripts written for the kit.
"""

from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from disentanglement_challenge.data.named import get_named_ground_truth_data
from disentanglement_challenge.environment import get_dataset_name


class DLIBDataset(Dataset[torch.Tensor]):
    """Random images of a ground-truth data set: for any index, the item is the next random image.

    Items are float32 tensors [channels, height, width] in [0, 1]. `iterator_len` is the length of an epoch.
    """

    def __init__(self, name: str, seed: int = 0, iterator_len: int = 50000) -> None:
        self.name = name
        self.seed = seed
        self.random_state = np.random.RandomState(seed)
        self.iterator_len = iterator_len
        self.dataset = self.load_dataset()

    def load_dataset(self) -> Any:
        """Load the ground-truth data; a subclass may load other data."""
        return get_named_ground_truth_data(self.name)

    def __len__(self) -> int:
        return self.iterator_len

    def __getitem__(self, item: int) -> torch.Tensor:
        if not -self.iterator_len <= item < self.iterator_len:
            raise IndexError(f"item {item} is out of range for a data set of length {self.iterator_len}")
        image = self.dataset.sample_observations(1, random_state=self.random_state)[0]
        return torch.from_numpy(np.moveaxis(image, 2, 0).astype(np.float32))


def get_dataset(name: str | None = None, seed: int = 0, iterator_len: int = 50000) -> DLIBDataset:
    """Make a DLIBDataset, by default of the data set that AICROWD_DATASET_NAME names."""
    return DLIBDataset(get_dataset_name() if name is None else name, seed=seed, iterator_len=iterator_len)


def get_loader(
    name: str | None = None,
    batch_size: int = 32,
    seed: int = 0,
    iterator_len: int = 50000,
    num_workers: int = 0,
    **kwargs: Any,
) -> DataLoader[torch.Tensor]:
    """Make a DLIBDataset and a DataLoader over it; `kwargs` go to the DataLoader.

    Batches are float32 tensors [batch_size, channels, height, width] in [0, 1]. Each worker process draws its own
    stream.
    """
    dataset = get_dataset(name, seed=seed, iterator_len=iterator_len)
    kwargs = {"worker_init_fn": _reseed, "generator": torch.Generator().manual_seed(seed), **kwargs}
    return DataLoader(dataset, batch_size=batch_size, shuffle=True, num_workers=num_workers, **kwargs)


def _reseed(worker: int) -> None:
    # In every epoch each worker gets a copy of the same random state, and would draw the same images as the others and
    # as before. PyTorch's seed differs for each worker and epoch.
    info = torch.utils.data.get_worker_info()
    if info is not None and isinstance(info.dataset, DLIBDataset):
        info.dataset.random_state = np.random.RandomState(info.seed % 2**32)
