"""The starter kit's public API, re-exported from the package."""

from disentanglement_challenge.data.loader import DLIBDataset, get_dataset, get_loader
from disentanglement_challenge.environment import ExperimentConfig, get_config, get_dataset_name, use_cuda
from disentanglement_challenge.export.model_file import export_model, get_model_path, import_model
from disentanglement_challenge.export.representor import make_representor

__all__ = [
    "DLIBDataset",
    "ExperimentConfig",
    "export_model",
    "get_config",
    "get_dataset",
    "get_dataset_name",
    "get_loader",
    "get_model_path",
    "import_model",
    "make_representor",
    "use_cuda",
]
