"""disentanglement_lib's dummy data: noise images that do not depend on their factors, for quick trials."""

from pathlib import Path

from disentanglement_lib.data.ground_truth import dummy_data

from disentanglement_challenge.data.ground_truth import NamedGroundTruthData


class DummyData(dummy_data.DummyData, NamedGroundTruthData):
    """The library's dummy data with a name: ten factors of five values, observations float64 [num, 64, 64, 1]."""

    name = "dummy_data"
    note = "noise; scores on it are those of chance"

    def __init__(self) -> None:
        self.factor_names = [f"factor_{i}" for i in range(self.num_factors)]


def load_dummy(name: str, data_path: Path) -> DummyData:
    """Make the data set; it has no files."""
    return DummyData()
