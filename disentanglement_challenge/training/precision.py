"""The precisions that a training step can multiply in, and which devices have them."""

from disentanglement_challenge.errors import ConfigError

PRECISIONS = ("float32", "tf32", "bfloat16")


def check_has_precision(precision: str, name: str, capability: tuple[int, int]) -> None:
    """Raises ConfigError where a GPU computes in tf32 or bfloat16 only by detours: before capability 8.0."""
    if capability < (8, 0):
        raise ConfigError(
            f"acceleration.precision is {precision!r}, and {name} has compute capability "
            f"{capability[0]}.{capability[1]}; GPUs have it from 8.0 on; use 'float32' here"
        )
