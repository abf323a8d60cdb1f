"""The training loop, and what a run leaves on disk."""

import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from signal import Signals

import gin
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from disentanglement_challenge.allocation import keep_freed_memory
from disentanglement_challenge.checks import check_count
from disentanglement_challenge.config import operative_bindings
from disentanglement_challenge.data.batches import random_batches, to_network
from disentanglement_challenge.data.ground_truth import NamedGroundTruthData
from disentanglement_challenge.data.named import get_named_ground_truth_data
from disentanglement_challenge.environment import device as training_device
from disentanglement_challenge.errors import ConfigError, Interrupted, TrainingError
from disentanglement_challenge.experiment import CHECKPOINT, Experiment
from disentanglement_challenge.export.metadata import Metadata
from disentanglement_challenge.export.model_file import export_model, more_formats
from disentanglement_challenge.files import make_folder, remove, remove_torn, replacing, write_json, write_text
from disentanglement_challenge.models import VAE, MeanEncoder
from disentanglement_challenge.objectives import Objective
from disentanglement_challenge.provenance import provenance
from disentanglement_challenge.training.acceleration import make_step
from disentanglement_challenge.training.batches import training_batches
from disentanglement_challenge.training.checkpoints import Checkpoint, Checkpoints, load_newest, newest_first
from disentanglement_challenge.training.events import EventLog
from disentanglement_challenge.training.pictures import IN_PASSING, draw_pictures, picture_interval, write_pictures
from disentanglement_challenge.training.processes import ALONE, Processes, torchrun_processes
from disentanglement_challenge.training.state import TrainingState
from disentanglement_challenge.training.step import TrainingStep
from disentanglement_challenge.training.stopping import Stop, Stopping
from disentanglement_challenge.training.watch import LossWatch

_LOGGER = logging.getLogger(__name__)

# Reading the losses waits for the device and writing them costs a little, so neither happens at every step.
LOG_EVERY = 100
_SHOWN = ("loss", "reconstruction_loss", "kl_loss", "total_correlation", "discriminator_loss")


def train_and_export(
    experiment: Experiment,
    overwrite: bool,
    resume: bool = False,
    on_progress: Callable[[float], None] = lambda progress: None,
) -> str:
    """Trains what gin describes on the data set gin names, and exports the mean encoder.

    Leaves train/ (operative gin config, checkpoints, TensorBoard events, final losses, pictures, and what the run was
    made with) and representation/ (the model and the gin configs that disentanglement_lib's results carry along) in the
    experiment's folder, in the place of what was there. A run that a signal stops is exported too, and takes the place
    of nothing but an interrupted run.

    Args:
        experiment: where to write.
        overwrite: whether to replace an earlier run.
        resume: whether to go on with the run that is there, if one is. It is an error where that cannot be done,
            unless `overwrite` lets the run be replaced.
        on_progress: told now and then how much of the training is done, from 0 to 1.

    Returns:
        What was done, in a sentence.

    Raises:
        Interrupted: a signal stopped the run.
        OutputError: the experiment has a run already and neither `overwrite` nor `resume` is set, or its folder cannot
            be written.
        ConfigError, DataError, TrainingError, RepresentationError: as the stages raise them.
    """
    keep_freed_memory()
    formats = more_formats()  # not after days of training
    with torchrun_processes(training_device()) as processes, ExitStack() as stack:
        resumable = [run for run in (experiment.unfinished, experiment) if resume and run.has_checkpoints]
        if processes.is_leader:
            if not resumable:
                experiment.check_room(overwrite)
            stack.enter_context(experiment.training())
        ground_truth_data = get_named_ground_truth_data()
        resume_from = resumable[0] if resumable else None
        trained = train(experiment.unfinished, ground_truth_data, resume_from, overwrite, processes, on_progress)
        if trained is None:
            return f"{experiment.path} is trained to its end already; a larger model.training_steps goes on from there"
        model = experiment.model
        if processes.is_leader:
            model = _export(experiment, trained, ground_truth_data, formats)
    if trained.signal is not None:
        raise Interrupted(f"{trained.summary}; its model so far is {model}", trained.signal)
    return trained.summary


def _export(
    experiment: Experiment, trained: "Trained", ground_truth_data: NamedGroundTruthData, formats: Sequence[str]
) -> Path:
    """Exports to the unfinished run, puts that into its place if it may take it, and returns where the model is."""
    unfinished = experiment.unfinished
    check_images = to_network(next(random_batches(ground_truth_data, 8, np.random.default_rng(0))), torch.device("cpu"))
    gin_config = gin.operative_config_str()
    encoder = MeanEncoder(trained.vae.encoder)
    metadata = Metadata.of(ground_truth_data.name, trained.vae.num_latent, gin_config)
    for suffix in ("pt", *formats):
        path = unfinished.model.with_suffix(f".{suffix}")
        export_model(encoder, path, check_images[:1].shape, images=check_images, metadata=metadata)
    configs = unfinished.representation_results / "gin"
    write_text(configs / "train.gin", gin_config)
    # disentanglement_lib's evaluation, and the kit's, read the data set's name here.
    write_text(configs / "postprocess.gin", f"dataset.name = {ground_truth_data.name!r}\n")
    if trained.signal is not None and experiment.representation_files and not experiment.is_interrupted:
        return unfinished.model
    experiment.take_training()
    return experiment.model


@dataclass(frozen=True)
class Trained:
    """What training came to: the VAE, how far it is in a sentence, and the signal that stopped it, if one did."""

    vae: VAE
    summary: str
    signal: Signals | None


@gin.configurable(
    "model", denylist=["experiment", "ground_truth_data", "resume_from", "overwrite", "processes", "on_progress"]
)
def train(
    experiment: Experiment,
    ground_truth_data: NamedGroundTruthData,
    resume_from: Experiment | None = None,
    overwrite: bool = False,
    processes: Processes = ALONE,
    on_progress: Callable[[float], None] = lambda progress: None,
    model: Objective = gin.REQUIRED,
    batch_size: int = gin.REQUIRED,
    training_steps: int = gin.REQUIRED,
    random_seed: int = gin.REQUIRED,
    eval_steps: int = 100,
    time_limit: float | None = None,
    name: str = "",
    model_num: int | None = None,
) -> Trained | None:
    """Trains a VAE (disentanglement_lib, methods/unsupervised/train.py).

    Args:
        experiment: where the leader writes. Emptied before the first step, unless it is the run that is resumed.
        ground_truth_data: the images to train on.
        resume_from: whose newest checkpoint to start from: `experiment`, or a run that is left as it is.
        overwrite: whether to start anew where `resume_from` cannot be gone on with.
        processes: those that train together; the leader's `resume_from` is the one that counts.
        on_progress: told now and then how much is done, from 0 to 1.
        model: the objective.
        batch_size: images a step, of all processes together.
        training_steps: steps.
        random_seed: decides weights, batches and noise; the same seed gives the same weights on the same machine,
            however often the run is stopped and resumed.
        eval_steps: batches that the final losses are averaged over.
        time_limit: seconds after which training stops, of this process's training alone; final losses and export come
            after it and take about a minute.
        name, model_num: label the run in its saved config, and do nothing.

    Returns:
        What training came to; None where `resume_from` is another run, and complete.

    Raises:
        ConfigError: a number out of range, what building the networks raises, or a checkpoint of another configuration.
        TrainingError: a loss is no longer finite or diverges, or no checkpoint can be read.
        OutputError: the disk is full or cannot be written.
    """
    del name, model_num
    stopping = Stopping(time_limit)
    check_count("model.batch_size", batch_size)
    check_count("model.training_steps", training_steps)
    check_count("model.eval_steps", eval_steps)
    check_count("model.random_seed", random_seed, minimum=0)
    if not isinstance(model, Objective):
        raise ConfigError(f"model.model is {model!r}; bind it to an objective, such as @factor_vae()")
    if batch_size % processes.size:
        raise ConfigError(f"model.batch_size is {batch_size}; it cannot be shared evenly by {processes.size} processes")
    device = training_device()
    # cuDNN may otherwise pick an algorithm that adds up in another order each time.
    torch.backends.cudnn.deterministic = True
    height, width, channels = ground_truth_data.observation_shape
    step, advance = make_step(model, (channels, height, width), random_seed, device, processes)
    state = TrainingState(step, random_seed)
    checkpoints = Checkpoints(experiment.checkpoints)
    every_steps = picture_interval()
    configuration = {
        **operative_bindings(),
        "dataset.name": repr(ground_truth_data.name),
        "factor sizes": repr(ground_truth_data.factors_num_values),
        "observation shape": repr(ground_truth_data.observation_shape),
        "device": repr(device.type),
    }
    resumed, is_complete = processes.from_leader(
        lambda: _resumed(experiment, resume_from, configuration, training_steps, overwrite)
    )
    if is_complete:
        return None
    if resumed is not None:
        state.load_state_dict(resumed.state)
        if processes.is_leader:
            tqdm.write(f"going on from step {state.done}", file=sys.stderr)
    if processes.is_leader:
        _prepare_folder(experiment, resume_from if resumed else None, state.done)
        write_text(experiment.train / "config.gin", gin.operative_config_str())
        write_json(experiment.train_provenance, provenance())

    batches = training_batches(ground_truth_data, batch_size * model.num_batches, state.random, device, processes)
    watch = LossWatch(LOG_EVERY, height * width * channels)
    draw = partial(draw_pictures, step.vae, step.reconstruction_loss.activation, ground_truth_data, device)
    stop = Stop.NO
    started = time.monotonic() - state.seconds
    with (
        stopping,
        checkpoints.named_in_errors(),
        EventLog(experiment.train, state.done) if processes.is_leader else nullcontext() as events,
        tqdm(
            total=training_steps,
            initial=state.done,
            unit="step",
            desc="training",
            mininterval=1,
            disable=not processes.is_leader,
        ) as bar,
    ):
        on_progress(state.done / training_steps)
        while state.done < training_steps and stop is Stop.NO:
            watch.add(advance(next(batches), state.done))
            state.done += 1
            bar.update()
            stop = Stop(processes.largest(stopping.reason))
            is_last = state.done == training_steps or stop is not Stop.NO
            is_logged = state.done % LOG_EVERY == 0 or is_last
            is_kept = is_last or (processes.is_leader and checkpoints.due)
            if is_logged or is_kept:
                values = watch.read(state.done)
            if is_logged:
                bar.set_postfix({key: f"{value:.4g}" for key, value in values.items() if key in _SHOWN})
                if events is not None:
                    events.scalars(values, state.done)
                on_progress(state.done / training_steps)
            if is_kept:
                state.seconds = time.monotonic() - started
                checkpoint = Checkpoint(configuration, state.state_dict())
                if processes.is_leader:
                    checkpoints.save(checkpoint)
            if state.done % every_steps == 0 and not is_last and events is not None:
                events.images(draw(state.done, **IN_PASSING).grids(), state.done)

        if events is not None:
            pictures = draw(state.done)
            write_pictures(experiment.pictures, pictures)
            events.images(pictures.grids(), state.done)

    stop = Stop(processes.largest(stopping.reason))
    if stop.signal is None:
        losses = _mean_losses(step, batches, eval_steps, state.done)
        timing = {"seconds": state.seconds, "steps_per_second": state.done / state.seconds}
        if processes.is_leader:
            write_json(experiment.losses, {"step": state.done, **losses, **timing})
    summary = f"trained to step {state.done} of {training_steps}"
    if stop.signal is not None or state.done < training_steps:
        summary += f" and stopped {stop.explanation}; --resume goes on from there"
    return Trained(step.vae, summary, stop.signal)


def _resumed(
    experiment: Experiment,
    resume_from: Experiment | None,
    configuration: dict[str, str],
    training_steps: int,
    overwrite: bool,
) -> tuple[Checkpoint | None, bool]:
    """The checkpoint to go on from, and whether there is nothing left to do as it is that of another, complete run."""
    if resume_from is None:
        return None, False
    try:
        checkpoint = load_newest(resume_from.checkpoints, configuration)
        if checkpoint is not None and checkpoint.done > training_steps:
            raise ConfigError(
                f"model.training_steps is {training_steps}; the run has made {checkpoint.done} already; "
                "ask for more, or pass --overwrite to start anew"
            )
    except (ConfigError, TrainingError) as error:
        if not overwrite:
            raise
        _LOGGER.warning("%s; starting anew", error)
        return None, False
    is_at_end = checkpoint is not None and checkpoint.done == training_steps
    return checkpoint, is_at_end and resume_from != experiment and resume_from.losses.exists()


def _prepare_folder(experiment: Experiment, continued: Experiment | None, done: int) -> None:
    """Leaves in the folder what belongs to the run that is continued after `done` steps, and nothing else."""
    if continued == experiment:
        remove_torn(experiment.path)
        remove(experiment.losses)
        # What is newer could not be read, and would count as one of those that are kept.
        kept = newest_first(experiment.checkpoints)
        for path in kept[: kept.index(experiment.checkpoints / CHECKPOINT.format(done))]:
            remove(path)
        return
    remove(experiment.path)
    make_folder(experiment.train)
    if continued is None:
        return
    for file in (*continued.train.glob("events*"), *newest_first(continued.checkpoints)):
        with replacing(experiment.train / file.relative_to(continued.train)) as copy:
            shutil.copyfile(file, copy)


def _mean_losses(step: TrainingStep, batches: Iterator[Tensor], num_batches: int, updates: int) -> dict[str, float]:
    """Each term over this many batches, with nothing updated."""
    with torch.no_grad():
        evaluated = [step.losses(next(batches), updates).named for _ in range(num_batches)]
    return {key: float(torch.stack([terms[key] for terms in evaluated]).mean()) for key in evaluated[0]}
