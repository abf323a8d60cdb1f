"""Choose the precision of a training step: supported precisions, their devices, and the meaning of "auto"."""

import torch

from disentanglement_challenge.errors import ConfigError

PRECISIONS = ("float32", "tf32", "bfloat16")
AUTO = "auto"

_OF_PROCESSORS = {"avx512_bf16": "AVX512_BF16", "amx_bf16": "AMX_BF16"}
_OF_GPUS = (8, 0)


def precision_that_pays(device: torch.device) -> tuple[str, str]:
    """Return the precision that "auto" means on a device, and a short reason.

    bfloat16 where the device has instructions that multiply it, and float32 elsewhere. It goes by what the device says
    of itself, never by timing, and so is the same each time.
    """
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability()
        has_it, reason = capability >= _OF_GPUS, f"the GPU has compute capability {capability[0]}.{capability[1]}"
    else:
        flags = torch.cpu.get_capabilities()
        found = [name for flag, name in _OF_PROCESSORS.items() if flags.get(flag)]
        has_it = bool(found)
        reason = f"the processor has {' and '.join(found) if found else 'neither AVX512_BF16 nor AMX_BF16'}"
    return "bfloat16" if has_it else "float32", reason


def check_has_precision(precision: str, name: str, capability: tuple[int, int]) -> None:
    """Raise ConfigError if a GPU only emulates tf32 or bfloat16: before capability 8.0."""
    if capability < _OF_GPUS:
        raise ConfigError(
            f"acceleration.precision is {precision!r}, and {name} has compute capability "
            f"{capability[0]}.{capability[1]}; GPUs have it from 8.0 on; use 'float32' here"
        )
