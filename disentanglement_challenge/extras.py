"""The optional packages, by the extra of pyproject.toml that installs them."""

import importlib.util

from disentanglement_challenge.errors import ConfigError

PACKAGES = {
    "hub": ("huggingface_hub",),
    "mlflow": ("mlflow",),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "sweep": ("ray",),
    "wandb": ("wandb",),
}


def require_extra(extra: str, purpose: str) -> None:
    """Raise ConfigError if a package of an extra is not installed; the message names the extra.

    Args:
        extra: a key of `PACKAGES`.
        purpose: what the packages are for, such as "a sweep".
    """
    missing = [package for package in PACKAGES[extra] if importlib.util.find_spec(package) is None]
    if missing:
        raise ConfigError(
            f"{purpose} needs {', '.join(missing)}, which is not installed; install the extra {extra!r}: "
            f"pip install '.[{extra}]' in the project's folder"
        )
