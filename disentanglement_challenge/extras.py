"""The packages that a plain installation leaves out, by the extra of pyproject.toml that brings them."""

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
    """Raises ConfigError, with the extra to install in it, where a package of the extra is not installed.

    Args:
        extra: a key of `PACKAGES`.
        purpose: what needs it, such as "a sweep".
    """
    missing = [package for package in PACKAGES[extra] if importlib.util.find_spec(package) is None]
    if missing:
        raise ConfigError(
            f"{purpose} needs {', '.join(missing)}, not installed here; install the extra {extra!r}: "
            f"pip install '.[{extra}]' in the project's folder"
        )
