"""Train one model in several processes of `torchrun`, each on its share of every batch.

Every process draws the same random numbers for the whole batch, and the objective sees the codes of the whole batch in
every process. So FactorVAE permutes, and DIP-VAE takes covariances, over all of them, the losses are those of one
process with the whole batch up to rounding, and a checkpoint can be resumed by another number of processes.
`DistributedDataParallel` would average the gradients of losses that each saw a share, which is something else.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

# Its functions have the process group at the time of the first import as a default argument. If PyTorch's optimisers
# imported it later, that would be gloo's group, whose threads would then outlive it, and a thread that frees a tensor
# while the interpreter ends is aborted.
import torch.distributed.nn
from torch import Tensor, distributed

from disentanglement_challenge.environment import is_torchrun
from disentanglement_challenge.errors import ConfigError

T = TypeVar("T")


class Processes:
    """This process among the processes of one training.

    Attributes:
        rank: which of them this is; 0 is the leader, which alone writes.
        size: how many they are.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size

    @property
    def is_leader(self) -> bool:
        """Return whether this process writes files and prints."""
        return self.rank == 0

    def own(self, batch: Tensor) -> Tensor:
        """Return this process's share: every `size`-th row, so that each part of a batch is shared evenly."""
        return batch[self.rank :: self.size]

    def gather(self, own: Tensor) -> Tensor:
        """Gather the shares of all processes, the inverse of `own`: [B / size, D] -> [B, D].

        Differentiable in this process's share. The others' gradients are what the others compute.
        """
        return own if self.size == 1 else _Gather.apply(own, self)

    def total(self, value: Tensor) -> Tensor:
        """Return the sum of the processes' values, with the gradient of this process's value."""
        return value if self.size == 1 else _Total.apply(value)

    def add_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Add the other processes' gradients to this one's."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def largest(self, value: int) -> int:
        """Return the largest of the processes' values."""
        if self.size == 1:
            return value
        values = torch.tensor(value)  # on the CPU, so that a GPU's work is not waited for
        distributed.all_reduce(values, distributed.ReduceOp.MAX)
        return int(values)

    def from_leader(self, make: Callable[[], T]) -> T:
        """Return the leader's value in all processes."""
        content = [make() if self.is_leader else None]
        if self.size > 1:
            distributed.broadcast_object_list(content)
        return content[0]  # type: ignore[return-value]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, own: Tensor, processes: Processes) -> Tensor:
        context.processes = processes
        shares = [torch.empty_like(own, memory_format=torch.contiguous_format) for _ in range(processes.size)]
        distributed.all_gather(shares, own.contiguous())
        return torch.stack(shares, dim=1).flatten(0, 1)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return context.processes.own(gradient), None


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, own: Tensor) -> Tensor:
        total = own.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return gradient


ALONE = Processes()


@contextmanager
def torchrun_processes(device: torch.device) -> Iterator[Processes]:
    """Connect the processes of torchrun inside the block; without torchrun, yield this process alone.

    On CUDA each takes the GPU of its local rank.
    """
    if not is_torchrun():
        yield ALONE
        return
    if device.type == "cuda":
        local_rank, wanted = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
        check_gpu_each(wanted, torch.cuda.device_count())
        torch.cuda.set_device(local_rank)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        processes = Processes(distributed.get_rank(), distributed.get_world_size())
        if device.type == "cuda":
            kinds: list[Any] = [None] * processes.size
            distributed.all_gather_object(kinds, torch.cuda.get_device_name())
            check_gpus_equal(kinds)
        yield processes
        processes.largest(0)  # whoever leaves first closes connections that others may still be reading
    finally:
        distributed.destroy_process_group()


def check_gpu_each(processes: int, gpus: int) -> None:
    """Raise ConfigError if a machine has fewer GPUs than processes: two on one card only share its time."""
    if processes > gpus:
        raise ConfigError(
            f"torchrun starts {processes} processes on a machine with {gpus} GPUs; pass --nproc_per_node {gpus}, "
            "or set AICROWD_CUDA to False to train on the CPU"
        )


def check_gpus_equal(names: Sequence[str]) -> None:
    """Raise ConfigError if the processes' GPUs are of different kinds.

    Each process updates its own copy of the networks, and kernels for another GPU add up in another order: the copies
    would drift apart. The slowest would also hold up the others.
    """
    if len(set(names)) > 1:
        raise ConfigError(
            f"the processes have GPUs of several kinds ({', '.join(sorted(set(names)))}); CUDA_VISIBLE_DEVICES chooses "
            "equal ones"
        )
