"""disentanglement_lib's dummy data: images of noise that have nothing to do with their factors, to try things out."""

from pathlib import Path

from disentanglement_lib.data.ground_truth import dummy_data

from disentanglement_challenge.data.ground_truth import NamedGroundTruthData


class DummyData(dummy_data.DummyData, NamedGroundTruthData):
    """The library's class, with a name: ten factors of five values, observations float64 [num, 64, 64, 1]."""

    name = "dummy_data"
    note = "noise; scores on it are those of a guess"

    def __init__(self) -> None:
        self.factor_names = [f"factor_{i}" for i in range(self.num_factors)]


def load_dummy(name: str, data_path: Path) -> DummyData:
    """Makes the data set; there is nothing to load."""
    return DummyData()
