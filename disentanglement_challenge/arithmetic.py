"""How products of float32 are computed: a setting of the whole process in PyTorch, here one of a block."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def float32_products(precision: str = "ieee") -> Iterator[None]:
    """Compute float32 as IEEE 754 has it, or with "tf32" NVIDIA's shorter products; put the settings back at the end.

    By default PyTorch takes TF32 for convolutions on NVIDIA's GPUs and IEEE for matrix products, and a caller may have
    asked for anything.
    """
    # One of PyTorch's two interfaces throughout: after a setting by this one the other, `allow_tf32`, may not be read.
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
    """Keep cuDNN from picking an algorithm that adds up in another order each time."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before
