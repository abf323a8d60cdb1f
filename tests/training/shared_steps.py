"""Some steps of every objective on the same images, by one process or by several that share them.

    torchrun --nproc_per_node 2 tests/training/shared_steps.py OUTPUT

writes each objective's losses by step, and a fingerprint of all weights at the end, as JSON.
"""

import json
import sys
from pathlib import Path

import torch

from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.objectives import DIPVAE, AnnealedVAE, BetaTCVAE, BetaVAE, BottleneckVAE, FactorVAE
from disentanglement_challenge.training.processes import torchrun_processes
from disentanglement_challenge.training.step import TrainingStep

OBJECTIVES = {
    "beta_vae": lambda: BetaVAE(4.0),
    "annealed_vae": lambda: AnnealedVAE(gamma=10.0, c_max=5.0, iteration_threshold=10),
    "bottleneck_vae": lambda: BottleneckVAE(gamma=10.0, target=3.0),
    "dip_vae_i": lambda: DIPVAE(lambda_od=10.0, lambda_d_factor=5.0, dip_type="i"),
    "dip_vae_ii": lambda: DIPVAE(lambda_od=10.0, lambda_d_factor=5.0, dip_type="ii"),
    "beta_tc_vae": lambda: BetaTCVAE(6.0),
    "factor_vae": lambda: FactorVAE(20.0),
}
SETTINGS = [
    "encoder.num_latent = 5",
    "conv_encoder.width = 0.25",
    "deconv_decoder.width = 0.25",
    "fc_discriminator.width = 0.1",
    "vae/AdamOptimizer.learning_rate = 0.001",
    "discriminator/AdamOptimizer.learning_rate = 0.001",
]


def losses_of_every_objective(processes):
    cpu = torch.device("cpu")
    images = torch.rand(5, 16, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    results = {}
    for name, make_objective in OBJECTIVES.items():
        with gin_configuration(["shared.gin"], SETTINGS, skip_unknown=["dataset", "model"]):
            step = TrainingStep(make_objective(), (3, 64, 64), 0, cpu, processes)
        steps = [step(processes.own(batch), index) for index, batch in enumerate(images)]
        weights = [float(p.detach().double().abs().sum()) for player in step.players for p in player.parameters]
        results[name] = {"losses": [{k: float(v) for k, v in terms.items()} for terms in steps], "weights": weights}
    return results


if __name__ == "__main__":
    with torchrun_processes(torch.device("cpu")) as processes:
        results = losses_of_every_objective(processes)
    threads = [Path(task, "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    content = {"size": processes.size, "threads_left": threads, **results}
    Path(f"{sys.argv[1]}.{processes.rank}").write_text(json.dumps(content))
