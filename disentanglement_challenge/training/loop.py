"""The training loop, and what a run leaves on disk."""

import time
from collections.abc import Mapping

import gin
import numpy as np
import torch
from tensorboardX import SummaryWriter
from torch import Tensor
from tqdm import tqdm

from disentanglement_challenge.config import check_count
from disentanglement_challenge.data.batches import random_batches, to_network
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.data.named import get_named_ground_truth_data
from disentanglement_challenge.environment import device as training_device
from disentanglement_challenge.errors import ConfigError, TrainingError
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.export.torchscript import export_model
from disentanglement_challenge.files import make_folder, write_json, write_text
from disentanglement_challenge.models import VAE, MeanEncoder
from disentanglement_challenge.objectives import Objective
from disentanglement_challenge.training.step import TrainingStep

# Reading the losses waits for the device and writing them costs a little, so neither happens at every step.
LOG_EVERY = 100


def train_and_export(experiment: Experiment, overwrite: bool) -> None:
    """Trains what gin describes on the data set gin names, and exports the mean encoder.

    Leaves train/ (operative gin config, TensorBoard events, final losses) and representation/ (the model and the gin
    configs that disentanglement_lib's results carry along) in the experiment's folder.

    Raises:
        OutputError: the experiment has a run already and `overwrite` is not set, or its folder cannot be written.
        ConfigError, DataError, TrainingError, RepresentationError: as the stages raise them.
    """
    experiment.check_room(overwrite)
    ground_truth_data = get_named_ground_truth_data()
    with experiment.training() as unfinished:
        vae = train(unfinished, ground_truth_data)
        check_images = to_network(torch.tensor(ground_truth_data.images[:8]), torch.device("cpu"))
        export_model(MeanEncoder(vae.encoder), unfinished.model, check_images[:1].shape, images=check_images)
        configs = unfinished.representation_results / "gin"
        write_text(configs / "train.gin", gin.operative_config_str())
        # disentanglement_lib's evaluation, and the kit's, read the data set's name here.
        write_text(configs / "postprocess.gin", f"dataset.name = {ground_truth_data.name!r}\n")
        experiment.take_training()


@gin.configurable("model", denylist=["experiment", "ground_truth_data"])
def train(
    experiment: Experiment,
    ground_truth_data: IndexedGroundTruthData,
    model: Objective = gin.REQUIRED,
    batch_size: int = gin.REQUIRED,
    training_steps: int = gin.REQUIRED,
    random_seed: int = gin.REQUIRED,
    eval_steps: int = 100,
    name: str = "",
    model_num: int | None = None,
) -> VAE:
    """Trains a VAE (disentanglement_lib, methods/unsupervised/train.py) and returns it.

    Args:
        experiment: where to write.
        ground_truth_data: the images to train on.
        model: the objective.
        batch_size: images a step.
        training_steps: steps.
        random_seed: decides weights, batches and noise; the same seed gives the same weights on the same machine.
        eval_steps: batches that the final losses are averaged over.
        name, model_num: label the run in its saved config, and do nothing.

    Raises:
        ConfigError: a number out of range, or what building the networks raises.
        TrainingError: a loss is no longer finite.
    """
    del name, model_num
    check_count("model.batch_size", batch_size)
    check_count("model.training_steps", training_steps)
    check_count("model.eval_steps", eval_steps)
    check_count("model.random_seed", random_seed, minimum=0)
    if not isinstance(model, Objective):
        raise ConfigError(f"model.model is {model!r}; bind it to an objective, such as @factor_vae()")
    device = training_device()
    # cuDNN may otherwise pick an algorithm that adds up in another order each time.
    torch.backends.cudnn.deterministic = True
    height, width, channels = ground_truth_data.observation_shape
    step = TrainingStep(model, (channels, height, width), random_seed, device)
    batches = random_batches(ground_truth_data, batch_size, np.random.default_rng(random_seed))

    write_text(make_folder(experiment.train) / "config.gin", gin.operative_config_str())
    started = time.monotonic()
    with (
        SummaryWriter(str(experiment.train)) as writer,
        tqdm(total=training_steps, unit="step", desc="training", mininterval=1) as bar,
    ):
        for index in range(training_steps):
            terms = step(to_network(next(batches), device), index)
            bar.update()
            if (index + 1) % LOG_EVERY == 0 or index + 1 == training_steps:
                values = _finite(terms, index + 1)
                bar.set_postfix({key: f"{value:.4g}" for key, value in values.items() if key in _SHOWN})
                for key, value in values.items():
                    writer.add_scalar(key, value, index + 1)
    seconds = time.monotonic() - started

    with torch.no_grad():
        evaluated = [step.losses(to_network(next(batches), device), training_steps)[2] for _ in range(eval_steps)]
    losses = {key: float(torch.stack([terms[key] for terms in evaluated]).mean()) for key in evaluated[0]}
    write_json(
        experiment.train / "losses.json",
        {"step": training_steps, **losses, "seconds": seconds, "steps_per_second": training_steps / seconds},
    )
    return step.vae


_SHOWN = ("loss", "reconstruction_loss", "kl_loss", "total_correlation", "discriminator_loss")


def _finite(terms: Mapping[str, Tensor], step: int) -> dict[str, float]:
    values = {key: float(value) for key, value in terms.items()}
    for key, value in values.items():
        if not np.isfinite(value):
            raise TrainingError(f"{key} is {value} at step {step}; try a lower learning rate or a smaller weight")
    return values
