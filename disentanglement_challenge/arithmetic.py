"""Set the precision of float32 products for a block; in PyTorch it is a setting of the whole process."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def float32_products(precision: str = "ieee") -> Iterator[None]:
    """Compute float32 as in IEEE 754, or with NVIDIA's TF32 ("tf32"), inside the block; then restore the settings.

    By default PyTorch uses TF32 for convolutions on NVIDIA GPUs and IEEE for matrix products, but a caller may have
    changed this.
    """
    # Use only one of PyTorch's two interfaces: after this one, reading the other, `allow_tf32`, is an error.
    cudnn: Any = torch.backends.cudnn
    mkldnn: Any = torch.backends.mkldnn
    on_gpu = [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn]
    on_cpu = [mkldnn.matmul, mkldnn.conv, mkldnn.rnn]
    before = [(backend, backend.fp32_precision) for backend in (*on_gpu, *on_cpu)]
    try:
        for backend in on_gpu:
            backend.fp32_precision = precision
        for backend in on_cpu:
            backend.fp32_precision = "ieee"
        yield
    finally:
        for backend, was in before:
            backend.fp32_precision = was


@contextmanager
def deterministic_convolutions() -> Iterator[None]:
    """Prevent cuDNN from choosing algorithms that sum in a different order each time."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before
