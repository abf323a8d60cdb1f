#!/usr/bin/env python
"""Time each layer of the VAE within the default training step, forward and backward, on the CPU.

    make bench-layers

A layer runs alone, on an input of the shape, type and memory layout that it gets in the step, in the way the step
computes it. The table shows its operations as a fraction of a large matrix product's rate in the same precision, and
the time that would be left over at that rate. The last but one line is the rest of the step: the discriminator, losses
and updates. Medians over the rounds, in each of which everything runs once.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import disentanglement_challenge  # noqa: F401 isort: skip (configures OpenMP before PyTorch is imported)
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from training import build, matmul_rate, random_images

from disentanglement_challenge.allocation import keep_freed_memory
from disentanglement_challenge.cli import run_script
from disentanglement_challenge.training.acceleration import StepOnCPU
from disentanglement_challenge.training.precision import PRECISIONS
from disentanglement_challenge.training.transposed_convolution import composed_transposed_convolutions


class Layer:
    """A layer and the input that it gets in a step."""

    def __init__(self, name: str, layer: nn.Module, given: Tensor) -> None:
        self.name, self.layer = name, layer
        # The first layer's input is images, which need no gradient.
        self.given = given.detach().requires_grad_(given.requires_grad)
        self.wanted = [tensor for tensor in (self.given, *layer.parameters()) if tensor.requires_grad]
        with FlopCounterMode(display=False) as counter:
            self.backward(layer.forward(self.given))  # a call would run the counter's hooks, which need `backward`
        self.operations = int(counter.get_total_flops())

    def backward(self, output: Tensor) -> None:
        torch.autograd.grad(output, self.wanted, torch.ones_like(output))

    def seconds(self) -> tuple[float, float]:
        """Run the layer; return the seconds of its forward and of its backward pass."""
        started = time.perf_counter()
        output = self.layer(self.given)
        forward = time.perf_counter() - started
        started = time.perf_counter()
        self.backward(output)
        return forward, time.perf_counter() - started


def layers_of(network: nn.Module, step: Callable[[], object]) -> list[Layer]:
    """Return the layers with weights, in the order in which a step uses them."""
    inputs: dict[str, tuple[nn.Module, Tensor]] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda layer, given, name=name: inputs.update({name: (layer, given[0])}))
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
    ]
    step()
    for hook in hooks:
        hook.remove()
    return [Layer(name, layer, given) for name, (layer, given) in inputs.items()]


def main(flags: argparse.Namespace) -> None:
    keep_freed_memory()  # as training does
    images = random_images(64)
    step, advance = build(["encoder.num_latent = 10", f"acceleration.precision = {flags.precision!r}"])
    if not isinstance(advance, StepOnCPU):
        raise SystemExit("error: this times layers on the CPU; set AICROWD_CUDA=False")
    network = step.first_player.computes
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=flags.precision == "bfloat16", cache_enabled=False)
    with composed_transposed_convolutions(network), step.arithmetic(), autocast:
        layers = layers_of(network, lambda: step(images, 0))
        times: dict[str, list[tuple[float, float]]] = {layer.name: [] for layer in layers}
        steps, rates = [], []
        for _ in range(flags.rounds):
            rates.append(matmul_rate(flags.precision))
            started = time.perf_counter()
            step(images, 0)
            steps.append(time.perf_counter() - started)
            for layer in layers:
                times[layer.name].append(layer.seconds())
    rate = statistics.median(rates)
    title = f"{flags.precision}, {torch.get_num_threads()} threads, matrix product {rate / 1e9:.0f} GFLOP/s"
    table = Table(title=title, title_justify="left")
    for column in ("layer", "GFLOP", "forward ms", "backward ms", "of peak", "over peak ms"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    taken = 0.0
    for layer in layers:
        forward, backward = (statistics.median(times) for times in zip(*times[layer.name], strict=True))
        seconds, least = forward + backward, layer.operations / rate
        taken += seconds
        numbers = (f"{layer.operations / 1e9:.3f}", f"{forward * 1e3:.2f}", f"{backward * 1e3:.2f}")
        table.add_row(layer.name, *numbers, f"{least / seconds:.0%}", f"{(seconds - least) * 1e3:.2f}")
    whole = statistics.median(steps)
    table.add_row("discriminator, losses, updates", "", "", f"{(whole - taken) * 1e3:.2f}", "", "")
    table.add_row("the step", "", "", f"{whole * 1e3:.2f}", "", "")
    Console(width=110).print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", choices=[name for name in PRECISIONS if name != "tf32"], default="float32")
    parser.add_argument("--rounds", type=int, default=21, help="(default: %(default)s)")
    parsed = parser.parse_args()
    run_script(lambda: main(parsed), debug=False)
