#!/usr/bin/env python
"""Time FactorVAE's training step: as in training, as plain eager PyTorch, and in other packages.

    make bench-training

The table shows steps, images and operations per second, the operations as a fraction of a large matrix product's of the
same precision, and how many times as fast as the plain step each side is, as medians and spread over the rounds. In
each round the sides run one after the other. The images are the same at every step, so that only the step is timed.
PyTorch's FlopCounterMode counts the operations of a step from the shapes of its convolutions and matrix products,
forward and backward, with two operations for a multiplication and an addition. The step is timed in float32, and in
bfloat16 where that pays; --precision chooses others.

The peers (`peers.py` describes them) run on the CPU only, each in its own virtual environment below
scratch/peers, which the first run installs. Beside each runs a step of this package that does equal work, and the last
lines say how many times as fast as the peer it is. If a peer cannot be installed or run, the reason is printed.

With an NVIDIA GPU the step is timed there (unless AICROWD_CUDA=False), on images on the GPU, with many steps in each
replay of a CUDA graph (ARGS="--steps 2000" makes a round long enough to time), and

    make bench-training ARGS="--check"

compares the losses of 100 graphed steps with those of 100 eager steps, and exits with 1 if they differ. Settings are
gin bindings: ARGS="--gin_bindings 'encoder.num_latent = 256'".

ARGS="--seeds 8" also times the step that eight seeds share (training/stacked.py). Its steps are counted seed by seed,
eight a call. With --check it compares, in float64, 20 steps of each seed with as many of its own eager steps.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import disentanglement_challenge  # noqa: F401 isort: skip (configures OpenMP before PyTorch is imported)
import numpy as np
import torch
from peers import PEERS, Peer
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from disentanglement_challenge.allocation import keep_freed_memory
from disentanglement_challenge.arithmetic import float32_products
from disentanglement_challenge.cli import run_script
from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.environment import device as training_device
from disentanglement_challenge.errors import ChallengeError
from disentanglement_challenge.files import write_json
from disentanglement_challenge.objectives import FactorVAE, Objective
from disentanglement_challenge.provenance import available_cores
from disentanglement_challenge.training.acceleration import Advance, make_step, make_steps
from disentanglement_challenge.training.batches import DeviceBatches, StackedDeviceBatches
from disentanglement_challenge.training.precision import PRECISIONS, precision_that_pays
from disentanglement_challenge.training.seeds import make_stacked_step
from disentanglement_challenge.training.step import Step, TrainingStep

SHAPE = (3, 64, 64)
MATRIX = 4096
PLAIN = "plain eager"

Timed = Callable[[int], float]
"""Make a number of steps and return their seconds."""


def build(bindings: list[str], seed: int = 0, objective: Objective | None = None) -> tuple[TrainingStep, Advance]:
    with gin_configuration(["shared.gin"], bindings, skip_unknown=["dataset", "model"]):
        return make_step(objective or FactorVAE(10.0), SHAPE, seed, training_device())


def build_together(bindings: list[str], seeds: int) -> tuple[Step, Advance]:
    """The step that so many seeds share."""
    return make_stacked_step([build(bindings, seed) for seed in range(seeds)], [0] * seeds)


def build_plain(bindings: list[str]) -> TrainingStep:
    """Build the same networks with PyTorch's defaults, in float32: memory layout of weights, autograd, Adam."""
    step, _ = build([*bindings, "acceleration.cuda_graph = False", "acceleration.precision = 'float32'"])
    step.vae.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for player in step.players:
        settings = player.optimizer.param_groups[0]
        player.optimizer = torch.optim.Adam(player.parameters, settings["lr"], settings["betas"], settings["eps"])
    if step.second_player is not None:
        # One with a hook is not taken back by this package (objectives/pass_back.py), but by autograd.
        step.second_player.network.register_forward_hook(lambda *_: None)
    return step


def count(step: Advance, images: torch.Tensor) -> int:
    """Floating-point operations of a step."""
    with FlopCounterMode(display=False) as counter:
        step(images, 0)
    return int(counter.get_total_flops())


def wait() -> None:
    if training_device().type == "cuda":
        torch.cuda.synchronize()


def timed(advance: Advance, images: torch.Tensor) -> Timed:
    def measure(steps: int) -> float:
        started = time.perf_counter()
        for index in range(steps):
            advance(images, index)
        wait()
        return time.perf_counter() - started

    return measure


def timed_on_device(step: Step, advance: Advance, batch_size: int, seeds: int = 0) -> Timed:
    """Return the timing of steps on a GPU with images on the GPU, which are drawn there; a replay has many steps.

    With `seeds`, of the step that so many seeds share.
    """
    images = torch.randint(256, (1024, 64, 64, 3), dtype=torch.uint8, device=training_device())
    own = [DeviceBatches(images, batch_size, np.random.default_rng(seed)) for seed in range(max(1, seeds))]
    steps = make_steps(step, advance, StackedDeviceBatches(own) if seeds else own[0])

    def measure(count: int) -> float:
        started = time.perf_counter()
        for done in range(0, count, steps.at_once):
            steps(done, min(steps.at_once, count - done))
        wait()
        return time.perf_counter() - started

    return measure


def a_seed(measure: Timed, seeds: int) -> Timed:
    """Of a step that so many seeds share, each one's part of the time."""
    return lambda steps: measure(steps) / seeds


class PlainStep:
    """The plain step in a separate process, which does not keep freed memory as this one does."""

    def __init__(self, bindings: list[str], batch_size: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.connection, theirs = spawn.Pipe()
        arguments = (theirs, bindings, batch_size, torch.get_num_threads())
        self.process = spawn.Process(target=serve_plain, args=arguments, daemon=True)
        self.process.start()

    def __call__(self, steps: int) -> float:
        self.connection.send(steps)
        return float(self.connection.recv())


def serve_plain(connection: Connection, bindings: list[str], batch_size: int, threads: int) -> None:
    torch.set_num_threads(threads)
    measure = timed(build_plain(bindings), random_images(batch_size))
    with suppress(EOFError):  # when the parent has ended
        while True:
            connection.send(measure(connection.recv()))


def random_images(batch_size: int) -> torch.Tensor:
    return torch.rand(batch_size, 64, 64, 3, device=training_device()).permute(0, 3, 1, 2)


def matmul_rate(precision: str) -> float:
    """Return the operations per second of a large matrix product."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    with float32_products("tf32" if precision == "tf32" else "ieee"):
        return _matmul_rate(dtype)


def _matmul_rate(dtype: torch.dtype) -> float:
    left = torch.rand(MATRIX // 2, MATRIX, device=training_device(), dtype=dtype)
    right = torch.rand(MATRIX, MATRIX, device=training_device(), dtype=dtype)
    repeats = 20 if training_device().type == "cuda" else 1
    left @ right
    wait()
    started = time.perf_counter()
    for _ in range(repeats):
        left @ right
    wait()
    return repeats * 2 * left.numel() * MATRIX / (time.perf_counter() - started)


def check(bindings: list[str], images: torch.Tensor, seeds: int) -> None:
    """Raise ChallengeError if the fast step's losses differ from the eager step's with the same random numbers.

    With `seeds`, the step that so many seeds share is compared with each seed's own eager step.
    """
    # These add up in another order than one seed, and in float32 rounding alone can lead two runs apart.
    dtype, steps, allowed = (torch.float64, 20, 1e-9) if seeds else (torch.float32, 100, 1e-3)
    eager = [build([*bindings, "acceleration.cuda_graph = False"], seed)[0] for seed in range(max(1, seeds))]
    made = [build(bindings, seed) for seed in range(max(1, seeds))]
    for step in (*eager, *(step for step, _ in made)):
        for player in step.players:
            player.network.to(dtype)
    _, fast = make_stacked_step(made, [0] * seeds) if seeds else made[0]
    images = images.to(dtype)
    given = torch.stack([images] * seeds) if seeds else images
    worst = 0.0
    for index in range(steps):
        terms = fast(given, index)
        for seed, step in enumerate(eager):
            for name, value in step(images, index).items():
                difference = (terms[name][seed] if seeds else terms[name]) - value
                worst = max(worst, float(difference.abs() / value.abs().clamp(min=1e-3)))
    together = f" of {seeds} seeds" if seeds else ""
    print(f"{type(fast).__name__}{together} against eager, {steps} steps: largest relative difference {worst:.1e}")
    if not worst < allowed:
        raise ChallengeError("the losses differ")


def main(flags: argparse.Namespace) -> None:
    device = training_device()
    bindings = [f"encoder.num_latent = {flags.latents}", *flags.gin_bindings]
    keep_freed_memory()  # as training does
    images = random_images(flags.batch_size)
    if flags.check:
        check(bindings, images, flags.seeds)
        return
    sides: dict[str, Timed] = {}
    precisions: dict[str, str] = {}  # of each side's products
    operations: dict[str, int] = {}
    on_cpu = device.type == "cpu"
    for precision in flags.precision or dict.fromkeys(("float32", precision_that_pays(device)[0])):
        name, settings = f"here, {precision}", [*bindings, f"acceleration.precision = {precision!r}"]
        step, advance = build(settings)
        operations[name], precisions[name] = count(advance if on_cpu else step, images), precision
        sides[name] = timed(advance, images) if on_cpu else timed_on_device(step, advance, flags.batch_size)
        if flags.seeds:
            name = f"{flags.seeds} seeds, {precision}"
            shared, advance = build_together(settings, flags.seeds)
            operations[name], precisions[name] = count(step, images), precision
            measure = (
                timed(advance, torch.stack([images] * flags.seeds))
                if on_cpu
                else timed_on_device(shared, advance, flags.batch_size, flags.seeds)
            )
            sides[name] = a_seed(measure, flags.seeds)
    operations[PLAIN], precisions[PLAIN] = count(build_plain(bindings), images), "float32"
    sides[PLAIN] = PlainStep(bindings, flags.batch_size)
    compared: dict[str, str] = {}  # sides here, with the peer that does equal work
    for name in flags.peers if on_cpu else []:
        peer = PEERS[name]
        all_images = random_images(peer.objective.num_batches * flags.batch_size)
        try:
            sides[name] = Peer(name, len(all_images), flags.latents)
        except ChallengeError as error:
            print(f"{name}: {error}")
            continue
        for precision in dict.fromkeys(precisions.values()):
            side = f"as {name}, {precision}"
            _, advance = build([*bindings, f"acceleration.precision = {precision!r}"], objective=peer.objective)
            sides[side], compared[side] = timed(advance, all_images), name
    notes: list[str] = []
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    peaks: dict[str, list[float]] = {precision: [] for precision in precisions.values()}
    for measure in sides.values():
        measure(flags.warm_up)
    for _ in range(flags.rounds):
        for precision, rates in peaks.items():
            rates.append(matmul_rate(precision))
        for name, measure in sides.items():
            seconds[name].append(measure(flags.steps) / flags.steps)
    for measure in sides.values():
        if isinstance(measure, Peer):
            measure.close()

    for side, name in compared.items():
        ratios = sorted(theirs / ours for theirs, ours in zip(seconds[name], seconds[side], strict=True))
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        notes.append(f"{side}: {statistics.median(ratios):.2f} ({spread}) times {name}; {PEERS[name].note}")
    rows = [row(name, seconds[name], seconds[PLAIN], flags.batch_size) for name in sides]
    for result in rows:
        if result["side"] in operations:  # a peer's steps are other work
            rate = result["steps_per_second"] * operations[result["side"]]
            peak = statistics.median(peaks[precisions[result["side"]]])
            result |= {"operations": operations[result["side"]], "gflops": rate / 1e9, "fraction_of_peak": rate / peak}
    machine = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "cores": available_cores(),
        "matmul_gflops": {precision: [rate / 1e9 for rate in rates] for precision, rates in peaks.items()},
        "torch": torch.__version__,
    }
    show(rows, notes, {precision: statistics.median(rates) for precision, rates in peaks.items()})
    given = {"batch_size": flags.batch_size, "bindings": bindings}
    write_json(Path(flags.output), {"machine": machine, **given, "rows": rows, "notes": notes})


def row(name: str, seconds: list[float], plain: list[float], batch_size: int) -> dict[str, Any]:
    """Rates over the rounds, and how many times as fast as the plain step's in the same round."""
    rates = sorted(1 / second for second in seconds)
    ratios = sorted(other / second for second, other in zip(seconds, plain, strict=True))
    rate = statistics.median(rates)
    result: dict[str, Any] = {"side": name, "steps_per_second": rate, "spread": [rates[0], rates[-1]]}
    result |= {"times_plain": statistics.median(ratios), "times_plain_spread": [ratios[0], ratios[-1]]}
    return result | {"images_per_second": rate * batch_size}


def show(rows: list[dict[str, Any]], notes: list[str], peaks: dict[str, float]) -> None:
    title = "matrix product: " + ", ".join(f"{peak / 1e9:.0f} GFLOP/s in {name}" for name, peak in peaks.items())
    table = Table(title=title, title_justify="left")
    for column in ("", "steps/s", "spread", "images/s", "GFLOP/s", "of peak", "times plain", "spread"):
        table.add_column(column, justify="right" if column else "left")
    for result in rows:
        low, high = result["spread"]
        work = [f"{result['gflops']:.0f}", f"{result['fraction_of_peak']:.0%}"] if "gflops" in result else ["", ""]
        rate, images = f"{result['steps_per_second']:.2f}", f"{result['images_per_second']:.0f}"
        ratios = "-".join(f"{ratio:.2f}" for ratio in result["times_plain_spread"])
        table.add_row(
            result["side"], rate, f"{low:.2f}-{high:.2f}", images, *work, f"{result['times_plain']:.2f}", ratios
        )
    Console(width=110).print(table)
    for note in notes:
        print(note)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--latents", type=int, default=10)
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, help="default: float32, and bfloat16 if it pays")
    parser.add_argument("--gin_bindings", action="append", default=[], metavar="'a.b = c'")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20, help="steps of each side in each round")
    parser.add_argument("--warm_up", type=int, default=5, help="steps of each side before the first round")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--seeds", type=int, default=0, help="time so many seeds that share their steps, too")
    parser.add_argument("--check", action="store_true", help="compare losses instead of timing")
    parser.add_argument("--output", default="scratch/benchmark_training.json")
    parsed = parser.parse_args()
    run_script(lambda: main(parsed), debug=False)
