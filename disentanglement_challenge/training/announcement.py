"""Format the first lines of a run, which describe it."""

import numpy as np
import torch

from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData, NamedGroundTruthData
from disentanglement_challenge.environment import device_reason, gpu_description
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.training.disk import DiskNeeds, megabytes
from disentanglement_challenge.training.precision import AUTO, precision_that_pays
from disentanglement_challenge.training.processes import Processes
from disentanglement_challenge.training.step import TrainingStep
from disentanglement_challenge.wording import counted


def num_images(ground_truth_data: NamedGroundTruthData) -> int:
    """Return the number of images of a data set, or of factor combinations if images are drawn as needed."""
    if isinstance(ground_truth_data, IndexedGroundTruthData):
        return len(ground_truth_data.images)
    return int(np.prod(ground_truth_data.factors_num_values))


def announcement(
    ground_truth_data: NamedGroundTruthData,
    step: TrainingStep,
    device: torch.device,
    processes: Processes,
    done: int,
    training_steps: int,
    experiment: Experiment,
    needs: DiskNeeds,
    free: int,
    is_auto: bool,
) -> list[str]:
    """Describe data, model, device, steps, folder and disk, a line each; `is_auto`: gin leaves the precision open."""
    size = " x ".join(map(str, ground_truth_data.observation_shape))
    parameters = [sum(parameter.numel() for parameter in player.parameters) for player in step.players]
    second = f", and {parameters[1]:,} of the discriminator" if len(parameters) > 1 else ""
    threads = f", {counted(torch.get_num_threads(), 'thread')}" if device.type == "cpu" else ""
    described = gpu_description() if device.type == "cuda" else device_reason()
    precision = step.precision
    if is_auto:
        precision += f" ({AUTO}: {'as the run began' if done else precision_that_pays(device)[1]})"
    shared = f", each batch shared by {processes.size} processes" if processes.size > 1 else ""
    disk = f"up to {megabytes(needs.most)} needed, {megabytes(free)} free"
    fit = (free - needs.model - needs.rest) // needs.checkpoint
    if fit < needs.at_once:
        disk += f": room for {fit} of {needs.at_once} checkpoints at a time; a smaller checkpoints.keep needs less"
    return [
        f"data set: {ground_truth_data.name}, {num_images(ground_truth_data):,} images of {size}",
        f"model: {type(step.objective).__name__} with {step.vae.num_latent} latents, {parameters[0]:,} parameters "
        f"of encoder and decoder{second}",
        f"device: {device.type} ({described}){threads}, {precision}{shared}",
        f"steps: from {done} to {training_steps}",
        f"writes to: {experiment.place}",
        f"disk: {disk}",
    ]
