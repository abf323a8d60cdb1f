"""Measure the share of training time that the pictures for TensorBoard take.

Steps of the default FactorVAE and drawings are timed in turns in one process, as in `training.run`. The results are the
share of drawing at the default interval, and the interval from which on it is below 1%.
"""

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from disentanglement_challenge.cli import run_script
from disentanglement_challenge.config import bound_value, gin_configuration
from disentanglement_challenge.data.named import get_named_ground_truth_data
from disentanglement_challenge.environment import device as training_device
from disentanglement_challenge.files import write_json
from disentanglement_challenge.objectives import FactorVAE
from disentanglement_challenge.training.acceleration import make_step
from disentanglement_challenge.training.batches import training_batches
from disentanglement_challenge.training.events import EventLog
from disentanglement_challenge.training.pictures import IN_PASSING, draw_pictures, picture_interval
from disentanglement_challenge.training.run import train  # noqa: F401 (registers gin's `model`)
from disentanglement_challenge.training.state import TrainingState


def measure(num_latent: int, rounds: int, steps: int) -> dict[str, float]:
    """Return the seconds of a step and of a drawing, as medians over the rounds, and the spread of their ratio."""
    with gin_configuration(["mpi3d_embedded.gin"], [f"encoder.num_latent = {num_latent}"]):
        data, device = get_named_ground_truth_data(), training_device()
        height, width, channels = data.observation_shape
        step, advance = make_step(FactorVAE(), (channels, height, width), 0, device)
        batches = training_batches(data, bound_value("model.batch_size"), TrainingState(step, 0).random, device)
        draw = partial(draw_pictures, step.vae, step.reconstruction_loss.activation, data, device)
        every_steps = picture_interval()

    def train_steps() -> None:
        for index in range(steps):
            advance(next(batches), index)

    with tempfile.TemporaryDirectory() as folder, EventLog(Path(folder)) as events:

        def draw_once() -> None:
            events.images(draw(0, **IN_PASSING).grids(), 0)

        train_steps()
        draw_once()
        taken = [(seconds(train_steps, device) / steps, seconds(draw_once, device)) for _ in range(rounds)]
    ratios = sorted(drawing / a_step for a_step, drawing in taken)
    return {
        "num_latent": num_latent,
        "step": statistics.median(a_step for a_step, _ in taken),
        "drawing": statistics.median(drawing for _, drawing in taken),
        "steps_per_drawing": statistics.median(ratios),
        "least": ratios[0],
        "most": ratios[-1],
        "every_steps": every_steps,
    }


def seconds(work: Callable[[], None], device: torch.device) -> float:
    """Return the seconds of some work, including the device's."""
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def main(flags: argparse.Namespace) -> None:
    results = [measure(num_latent, flags.rounds, flags.steps) for num_latent in flags.widths]
    where = torch.cuda.get_device_name() if training_device().type == "cuda" else platform.processor() or "CPU"
    table = Table(title=f"pictures for TensorBoard, {where}, {torch.get_num_threads()} threads")
    for heading in ("latents", "ms a step", "ms a drawing", "steps it takes", "under 1% from every", "at the default"):
        table.add_column(heading, justify="right")
    for result in results:
        share = result["steps_per_drawing"] / (result["every_steps"] + result["steps_per_drawing"])
        table.add_row(
            f"{result['num_latent']}",
            f"{1e3 * result['step']:.2f}",
            f"{1e3 * result['drawing']:.1f}",
            f"{result['steps_per_drawing']:.1f} ({result['least']:.1f}-{result['most']:.1f})",
            f"{99 * result['most']:.0f} steps",
            f"{100 * share:.3f}% (every {result['every_steps']})",
        )
    Console(width=110).print(table)
    write_json(flags.output, results)
    print(flags.output)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--widths", type=int, nargs="+", default=[10, 256, 3072], metavar="N", help="numbers of latents"
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=20, help="training steps per round")
    parser.add_argument("--output", type=Path, default=Path("scratch/benchmark_pictures.json"))
    parsed = parser.parse_args()
    run_script(lambda: main(parsed), debug=True)
