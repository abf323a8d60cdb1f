#!/usr/bin/env python
"""Time all five scores by number of latents: the fast engine against disentanglement_lib's own code.

    make bench ARGS="--widths 10 256 3072"

Settings are official, factor sizes [6, 6, 2, 3, 3, 40, 40] (mpi3d_embedded_full, rendered on first use: 12.7 GB), the
model an untrained conv_encoder; both sides include encoding. The sides run one after the other in separate processes,
to measure peak memory separately. Above --whole latents, the library's time is extrapolated from a part of its work:

    factor_vae_metric  a twentieth of its points
    dci                one boosting stage of one three-valued factor: 3 of the 9,900 trees (6 + 6 + 1 + 3 + 3 + 40 +
                       40 a stage, 100 stages), as every tree is grown on the same points and latents
    sap_score, mig     eight of the latents
    irs                all of it

Each has a twentieth of the sampling. This is an underestimate: the library copies all earlier points for every batch.
With a GPU the fast engine encodes there, unless AICROWD_CUDA=False.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.ensemble import GradientBoostingClassifier

from disentanglement_challenge import library
from disentanglement_challenge.cli import run_script
from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.data.named import get_named_ground_truth_data
from disentanglement_challenge.data.sampling import GridSampler
from disentanglement_challenge.evaluation.harness import evaluate
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.export.model_file import export_model, import_model
from disentanglement_challenge.export.representor import make_representor
from disentanglement_challenge.files import make_folder, write_json
from disentanglement_challenge.metrics import METRICS
from disentanglement_challenge.models import MeanEncoder, make_vae
from disentanglement_challenge.provenance import available_cores

DATASET = "mpi3d_embedded_full"
PART = 20
NUM_LATENTS = 8
TREES = 100 * (6 + 6 + 1 + 3 + 3 + 40 + 40)
THREE_VALUED = 3  # camera_height


def export_untrained(experiment: Experiment, num_latent: int) -> None:
    networks = [
        "encoder.encoder_fn = @conv_encoder",
        "decoder.decoder_fn = @deconv_decoder",
        f"encoder.num_latent = {num_latent}",
    ]
    with gin_configuration([], networks):
        vae = make_vae((3, 64, 64), torch.Generator().manual_seed(0))
    with torch.no_grad():
        # Otherwise all latents would be pruned for their small variance, and the FactorVAE score would need no work.
        vae.encoder.z_mean.weight *= 100  # type: ignore[operator, union-attr]
    export_model(MeanEncoder(vae.encoder), experiment.model)


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    started = time.monotonic()
    result = function()
    return time.monotonic() - started, result


def whole(num_latent: int, engine: str) -> dict[str, Any]:
    """Run a whole evaluation; return the seconds of each metric and of their shared work, and the scores."""
    with TemporaryDirectory(dir=make_folder(Path("scratch"))) as folder:
        experiment = Experiment(Path(folder) / "e")
        export_untrained(experiment, num_latent)
        bindings = [f"dataset.name = {DATASET!r}", f"evaluation.engine = {engine!r}"]
        total, scores = timed(lambda: evaluate(experiment, [], bindings))
        seconds = {metric: score.seconds for metric, score in scores.by_metric.items()}
        return {
            "seconds": {"encoding and set-up": total - sum(seconds.values()), **seconds},
            "scores": scores.as_dict(),
        }


def library_in_part(num_latent: int) -> dict[str, Any]:
    """Extrapolate the seconds of each metric with disentanglement_lib's own code; see the top of this file."""
    data = get_named_ground_truth_data(DATASET)
    with TemporaryDirectory(dir=make_folder(Path("scratch"))) as folder:
        experiment = Experiment(Path(folder) / "e")
        export_untrained(experiment, num_latent)
        representation = make_representor(import_model(experiment.model))

    def sampling(num_points: int) -> float:
        state = np.random.RandomState(0)
        part = num_points // PART
        return PART * timed(lambda: library.utils.generate_batch_factor_code(data, representation, part, state, 16))[0]

    settings = [
        "discretizer.discretizer_fn = @histogram_discretizer",
        "discretizer.num_bins = 20",
        "prune_dims.threshold = 0.05",
    ]
    with gin_configuration([], settings):
        factor_vae, _ = timed(
            lambda: library.factor_vae.compute_factor_vae(
                data,
                representation,
                np.random.RandomState(0),
                batch_size=64,
                num_train=10000 // PART,
                num_eval=5000 // PART,
                num_variance_estimate=10000 // PART,
            )
        )
        sampler = GridSampler(data, representation)
        train = sampler.points(10000, 256, np.random.RandomState(0))
        test = sampler.points(5000, 256, np.random.RandomState(1))
        mus, ys, mus_test, ys_test = train.codes.T, train.factors.T, test.codes.T, test.factors.T
        stage = GradientBoostingClassifier(n_estimators=1)
        dci, _ = timed(lambda: stage.fit(mus.T, ys[THREE_VALUED]))
        few, few_test = mus[:NUM_LATENTS], mus_test[:NUM_LATENTS]
        sap, _ = timed(lambda: library.sap_score.compute_score_matrix(few, ys, few_test, ys_test, False))
        mig, _ = timed(lambda: library.utils.discrete_mutual_info(library.utils.make_discretizer(few), ys))
        irs, _ = timed(lambda: library.irs.scalable_disentanglement_score(ys.T, mus.T, 0.99))
    seconds = {
        "factor_vae_metric": PART * factor_vae,
        "sap_score": sampling(15000) + sap * num_latent / NUM_LATENTS,
        "dci": sampling(15000) + dci * TREES / 3,
        "irs": sampling(10000) + irs,
        "mig": sampling(10000) + mig * num_latent / NUM_LATENTS,
    }
    return {"seconds": seconds}


def in_a_process(side: str, num_latent: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--side", side, "--widths", str(num_latent)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def one_side(side: str, num_latent: int) -> None:
    result = library_in_part(num_latent) if side == "library in part" else whole(num_latent, side)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({**result, "peak_gb": peak}))


def main(flags: argparse.Namespace) -> None:
    if flags.side:
        one_side(flags.side, flags.widths[0])
        return
    get_named_ground_truth_data(DATASET)
    rows = []
    for num_latent in flags.widths:
        library_side = "library" if num_latent <= flags.whole else "library in part"
        runs: dict[str, list[dict[str, Any]]] = {"fast": [], library_side: []}
        for _ in range(flags.repeats):
            for side in runs:
                runs[side].append(in_a_process(side, num_latent))
        rows.append({"num_latent": num_latent, "runs": runs})
        show(rows[-1], library_side)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": available_cores(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
    write_json(Path(flags.output), {"machine": machine, "rows": rows})


def show(row: dict[str, Any], library_side: str) -> None:
    ours, theirs = row["runs"]["fast"], row["runs"][library_side]
    note = "" if library_side == "library" else " (library extrapolated)"
    table = Table(title=f"{row['num_latent']} latents, median seconds of {len(ours)} run(s){note}")
    for column in ("", "fast", "library", "ratio"):
        table.add_column(column, justify="left" if not column else "right")

    def median(runs: list[dict[str, Any]], name: str) -> float:
        return statistics.median(run["seconds"].get(name, 0.0) for run in runs)

    for name in ("encoding and set-up", *METRICS):
        table.add_row(name, f"{median(ours, name):.1f}", f"{median(theirs, name):.1f}", "")
    totals = [[sum(run["seconds"].values()) for run in runs] for runs in (ours, theirs)]
    medians = [statistics.median(total) for total in totals]
    table.add_row("all", *(f"{total:.1f}" for total in medians), f"{medians[1] / medians[0]:.1f}x")
    spread = "  ".join(f"{min(total):.1f}-{max(total):.1f}" for total in totals)
    peak = "  ".join(f"{max(run['peak_gb'] for run in runs):.2f}" for runs in (ours, theirs))
    Console().print(table)
    print(f"spread of the totals (s): {spread}   peak memory (GB): {peak}", flush=True)
    if "scores" in theirs[0]:
        differences = (f"{metric} {ours[0]['scores'][metric] - theirs[0]['scores'][metric]:+.1e}" for metric in METRICS)
        print(f"fast minus library: {', '.join(differences)}")
    print()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[10, 256], metavar="NUM_LATENT")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--whole", type=int, default=10, help="up to this width, run the library to its end")
    parser.add_argument("--output", default="scratch/benchmark_scores.json")
    parser.add_argument("--side", choices=["fast", "library", "library in part"], help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    run_script(lambda: main(parsed), debug=True)
