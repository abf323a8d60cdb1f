"""Carry out a training run: prepare its folder, resume it, run the loop, and write the results."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from signal import Signals
from typing import Any

import gin
import numpy as np
import torch
from torch import Tensor

from disentanglement_challenge.allocation import keep_freed_memory
from disentanglement_challenge.config import operative_bindings
from disentanglement_challenge.data.batches import random_batches, to_network
from disentanglement_challenge.data.ground_truth import NamedGroundTruthData
from disentanglement_challenge.data.named import get_named_ground_truth_data
from disentanglement_challenge.environment import device as training_device
from disentanglement_challenge.environment import device_reason
from disentanglement_challenge.errors import ConfigError, Interrupted, OutputError
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.export.metadata import Metadata
from disentanglement_challenge.export.model_card import keep_own_card, write_card
from disentanglement_challenge.export.model_file import export_model, more_formats
from disentanglement_challenge.files import remove, write_json, write_text
from disentanglement_challenge.models import VAE, MeanEncoder
from disentanglement_challenge.provenance import provenance
from disentanglement_challenge.training.acceleration import Advance, make_step, make_steps
from disentanglement_challenge.training.announcement import announcement, num_images
from disentanglement_challenge.training.batches import training_batches
from disentanglement_challenge.training.checkpoints import Checkpoints
from disentanglement_challenge.training.disk import bytes_below, check_disk, disk_needs
from disentanglement_challenge.training.log import TrainingLog, say
from disentanglement_challenge.training.loop import Asking, Loop, supply
from disentanglement_challenge.training.pictures import Pictures, draw_pictures, picture_interval, write_pictures
from disentanglement_challenge.training.precision import AUTO
from disentanglement_challenge.training.processes import ALONE, Processes, torchrun_processes
from disentanglement_challenge.training.resume import find_checkpoint, is_whole, prepare_folder
from disentanglement_challenge.training.settings import TrainingSettings
from disentanglement_challenge.training.state import TrainingState
from disentanglement_challenge.training.step import TrainingStep
from disentanglement_challenge.training.stopping import Stop, Stopping
from disentanglement_challenge.training.trackers import Trackers, trackers_in_use
from disentanglement_challenge.training.watch import LossWatch

# Steps whose losses are kept on the device at most before they are looked at.
_WATCHED_STEPS = 100


def train_and_export(
    experiment: Experiment,
    overwrite: bool,
    resume: bool = False,
    on_progress: Callable[[float], None] = lambda progress: None,
    resume_on: str | None = None,
    discard_unfinished: bool = False,
    ground_truth_data: NamedGroundTruthData | None = None,
    continue_from: Experiment | None = None,
) -> str:
    """Train the model of gin's configuration on its data set, and export the mean encoder.

    Leaves train/ (operative gin config, checkpoints, losses as lines and TensorBoard events, final losses, pictures,
    and what the run was made with) and representation/ (the model, its card, and the gin configs that
    disentanglement_lib's results carry along) in the experiment's folder, in the place of what was there. A run that a
    signal stops is exported too, and takes the place of nothing but an interrupted run.

    Args:
        experiment: where to write.
        overwrite: whether to replace an earlier run.
        resume: whether to resume the run that is there, if one is. It is an error where that cannot be done, unless
            `overwrite` lets the run be replaced.
        on_progress: told now and then how much of the training is done, from 0 to 1.
        resume_on: resume on this kind of device, "cpu" or "cuda", also what was begun on the other.
        discard_unfinished: remove what an interrupted run left, and keep what is finished.
        ground_truth_data: the data set, where it is loaded already.
        continue_from: a finished run of the same configuration and fewer steps. Where this experiment has nothing to be
            resumed, training starts from a copy of that run's newest checkpoint; that run is left as it is.

    Returns:
        What was done, in a sentence.

    Raises:
        Interrupted: a signal stopped the run.
        OutputError: the experiment has a run already and neither `overwrite` nor `resume` is set, its folder cannot
            be written, or its disk is too full, perhaps for the last checkpoint alone: then the model is exported.
        ConfigError, DataError, TrainingError, RepresentationError: as the stages raise them.
    """
    keep_freed_memory()
    settings = TrainingSettings()  # before a data set is rendered
    formats = more_formats()  # not after days of training
    trackers_in_use()
    device = training_device()
    if resume_on not in (None, device.type):
        raise ConfigError(f"--resume_on {resume_on}, and training runs on {device.type} ({device_reason()})")
    resume = resume or resume_on is not None
    with torchrun_processes(device) as processes, ExitStack() as stack:
        resume_from = None
        is_kept = False
        if processes.is_leader:
            experiment.check_start(overwrite, resume, discard_unfinished)
            stack.enter_context(experiment.training())
            if discard_unfinished and experiment.unfinished.path.exists():
                remove(experiment.unfinished.path)
                is_kept = bool(experiment.results) and not (overwrite or resume)
            resume_from = (experiment.resumable() if resume else None) or continue_from
        if processes.from_leader(lambda: is_kept):
            return f"discarded {experiment.unfinished.path}; {experiment.path} keeps its finished run"
        if ground_truth_data is None:
            ground_truth_data = get_named_ground_truth_data()
        run = prepare(
            settings,
            experiment.unfinished,
            ground_truth_data,
            resume_from,
            overwrite,
            processes,
            may_move=resume_on is not None,
            num_formats=1 + len(formats),
        )
        if run is None:
            return already_trained(experiment)
        trained = train(run, on_progress)
        model = experiment.model
        if processes.is_leader:
            model = export(experiment, trained, ground_truth_data, formats)
    return summary_of(trained, model)


def already_trained(experiment: Experiment) -> str:
    """Return the message for a resumed run that has no steps left."""
    return f"{experiment.path} is trained to its end already; a larger model.training_steps trains it further"


def summary_of(trained: "Trained", model: Path) -> str:
    """Return a sentence about a run whose model is exported.

    Raises:
        Interrupted: a signal stopped the run.
        OutputError: the last checkpoint could not be written.
    """
    if trained.failure is not None:
        raise OutputError(f"{trained.failure}; {trained.summary} and exported {model} all the same")
    if trained.signal is not None:
        raise Interrupted(f"{trained.summary}; its model so far is {model}", trained.signal)
    return trained.summary


def export(
    experiment: Experiment, trained: "Trained", ground_truth_data: NamedGroundTruthData, formats: Sequence[str]
) -> Path:
    """Export to the unfinished run, move that to its final place if allowed, and return the model's path."""
    unfinished = experiment.unfinished
    check_images = to_network(next(random_batches(ground_truth_data, 8, np.random.default_rng(0))), torch.device("cpu"))
    encoder = MeanEncoder(trained.vae.encoder)
    metadata = Metadata.of(ground_truth_data.name, trained.vae.num_latent, trained.config)
    for suffix in ("pt", *formats):
        path = unfinished.model.with_suffix(f".{suffix}")
        export_model(encoder, path, check_images[:1].shape, images=check_images, metadata=metadata)
    configs = unfinished.representation_results / "gin"
    write_text(configs / "train.gin", trained.config)
    # disentanglement_lib's evaluation, and the kit's, read the data set's name here.
    write_text(configs / "postprocess.gin", f"dataset.name = {ground_truth_data.name!r}\n")
    keep_own_card(experiment, unfinished)
    write_card(unfinished)
    if trained.signal is not None and experiment.representation_files and not experiment.is_interrupted:
        return unfinished.model
    experiment.take_training()
    return experiment.model


@dataclass(frozen=True)
class Trained:
    """The result of training.

    Attributes:
        vae: trained.
        config: gin's operative configuration.
        summary: how far it is, in a sentence.
        signal: that stopped it, if one did.
        failure: why the last checkpoint could not be written, if it could not.
    """

    vae: VAE
    config: str
    summary: str
    signal: Signals | None
    failure: OutputError | None


def train(run: "Run", on_progress: Callable[[float], None] = lambda progress: None) -> Trained:
    """Train a prepared run.

    Args:
        run: as `prepare` returns it.
        on_progress: told now and then how much is done, from 0 to 1.

    Raises:
        TrainingError: a loss is no longer finite or diverges.
        OutputError: the disk is full or cannot be written.
    """
    for line in run.announcement:
        say(line)
    run.begin()
    batches = training_batches(
        run.ground_truth_data, run.batch_size, run.state.random, training_device(), run.processes
    )
    stopping = Stopping(run.settings.time_limit)
    with stopping:
        steps = make_steps(run.step, run.advance, batches)
        stop, failure = supply(run.loop(stopping, on_progress), steps, run.state.done)
    return run.end(max(stop, stopping.reason), failure, batches)


@dataclass(frozen=True)
class Run:
    """A run that is ready to begin.

    Attributes:
        settings, experiment, ground_truth_data, processes: as for `prepare`.
        resumed: whose checkpoint it starts from, if it does.
        step, advance: as `make_step` makes them.
        state: as it is before the first step.
        checkpoints, log: where it will be kept.
        pictures_every: steps between two drawings.
        configuration: what its checkpoints are marked with.
        config: gin's operative configuration.
        together: the seeds that train with it, itself among them; none where it trains alone.
        announcement: what it will do, a line each; none where this process does not lead.
    """

    settings: TrainingSettings
    experiment: Experiment
    ground_truth_data: NamedGroundTruthData
    processes: Processes
    resumed: Experiment | None
    step: TrainingStep
    advance: Advance
    state: TrainingState
    checkpoints: Checkpoints
    log: TrainingLog
    pictures_every: int
    configuration: dict[str, str]
    config: str
    together: Sequence[int]
    announcement: list[str]

    @property
    def batch_size(self) -> int:
        """Return the number of images that a step draws."""
        return self.settings.batch_size * self.settings.model.num_batches

    def begin(self) -> None:
        """Prepare the experiment's folder, so that it contains only the files of this run.

        Raises:
            OutputError: the disk is full or cannot be written.
        """
        if not self.processes.is_leader:
            return
        prepare_folder(self.experiment, self.resumed, self.state.done)
        write_text(self.experiment.train / "config.gin", self.config)
        data = {name: getattr(self.ground_truth_data, name) for name in ("name", "note", "accepted")}
        together = {"seeds_together": list(self.together)} if self.together else {}
        record = {**provenance(), "precision": self.step.precision, "ground_truth_data": data, **together}
        write_json(self.experiment.train_provenance, {**record, **_moves(self.state)})

    def loop(
        self, stopping: Stopping, on_progress: Callable[[float], None] = lambda progress: None
    ) -> Asking[tuple[Stop, OutputError | None]]:
        """Run the training loop, which asks for steps as `Loop.run` does, and draw pictures at its end."""
        height, width, channels = self.ground_truth_data.observation_shape
        with self.checkpoints.named_in_errors(), self.log:
            stop, failure = yield from Loop(
                state=self.state,
                training_steps=self.settings.training_steps,
                watch=LossWatch(_WATCHED_STEPS, height * width * channels),
                log=self.log,
                draw=self._draw,
                pictures_every=self.pictures_every,
                checkpoints=self.checkpoints,
                configuration=self.configuration,
                stopping=stopping,
                processes=self.processes,
                on_progress=on_progress,
            ).run()
            has_failed = self.processes.from_leader(lambda: failure is not None)
            if self.processes.is_leader and not has_failed:
                pictures = self._draw(self.state.done)
                write_pictures(self.experiment.pictures, pictures)
                self.log.images(pictures.grids(), self.state.done)
        return stop, failure

    def end(self, stop: Stop, failure: OutputError | None, batches: Iterator[Tensor]) -> Trained:
        """Compute the final losses on the next batches, after the loop has returned `stop` and `failure`."""
        state, steps = self.state, self.settings.training_steps
        stop = Stop(self.processes.largest(stop))
        # The room that is left on a full disk is the model's.
        if stop.signal is None and not self.processes.from_leader(lambda: failure is not None):
            losses = _mean_losses(self.step, batches, self.settings.eval_steps, state.done)
            timing = {"seconds": state.seconds, "steps_per_second": state.done / state.seconds}
            if self.processes.is_leader:
                write_json(self.experiment.losses, {"step": state.done, **losses, **timing})
        summary = f"trained to step {state.done} of {steps}"
        if stop.signal is not None or state.done < steps:
            summary += f" and stopped {stop.explanation}; --resume continues from there"
        if failure is not None:
            failure = OutputError(f"{failure}; the last good checkpoint is {self.checkpoints.last_good}")
        return Trained(self.step.vae, self.config, summary, stop.signal, failure)

    def _draw(self, step: int, **fewer: int) -> Pictures:
        activation = self.step.reconstruction_loss.activation
        return draw_pictures(self.step.vae, activation, self.ground_truth_data, self.step.noise.device, step, **fewer)


def prepare(
    settings: TrainingSettings,
    experiment: Experiment,
    ground_truth_data: NamedGroundTruthData,
    resume_from: Experiment | None = None,
    overwrite: bool = False,
    processes: Processes = ALONE,
    may_move: bool = False,
    num_formats: int = 1,
    together: Sequence[int] = (),
) -> Run | None:
    """Build a run, from a checkpoint if there is one to resume, without writing anything.

    Args:
        settings: of the run.
        experiment: where the leader will write. Emptied before the first step, unless it is the run that is resumed.
        ground_truth_data: the images to train on.
        resume_from: whose newest checkpoint to start from: `experiment`, or a run that is left as it is.
        overwrite: whether to start anew where `resume_from` cannot be resumed.
        processes: those that train together; the leader's `resume_from` is the one that counts.
        may_move: whether what is resumed may have been begun on another kind of device.
        num_formats: of the model that will be exported, TorchScript among them, for what they will take of the disk.
        together: the seeds that will train with it, on the same disk, itself among them; the first has the bar.

    Returns:
        The run; None where `resume_from` is another run, and complete.

    Raises:
        ConfigError: a number out of range, what building the networks raises, or a checkpoint of another configuration.
        TrainingError: no checkpoint can be read.
        OutputError: the disk is too full for the run.
    """
    if settings.batch_size % processes.size:
        raise ConfigError(
            f"model.batch_size is {settings.batch_size}; it cannot be shared evenly by {processes.size} processes"
        )
    device = training_device()
    height, width, channels = ground_truth_data.observation_shape
    make = partial(
        make_step,
        settings.model,
        (channels, height, width),
        settings.random_seed,
        device,
        processes,
        num_images(ground_truth_data),
    )
    step, advance = make()
    checkpoints = Checkpoints(experiment.checkpoints)
    pictures_every = picture_interval()
    tracked_by = trackers_in_use()
    bindings = operative_bindings()
    is_auto = bindings["acceleration.precision"] == repr(AUTO)
    configuration = {
        **bindings,
        "acceleration.precision": repr(step.precision),
        "dataset.name": repr(ground_truth_data.name),
        "factor sizes": repr(ground_truth_data.factors_num_values),
        "observation shape": repr(ground_truth_data.observation_shape),
        "device": repr(device.type),
    }
    free = [*(["device"] if may_move else []), *(["acceleration.precision"] if is_auto else [])]
    resumed = processes.from_leader(
        lambda: find_checkpoint(resume_from, configuration, settings.training_steps, overwrite, free)
    )
    if resumed is not None:
        if resumed.done == settings.training_steps and processes.from_leader(lambda: is_whole(resume_from, experiment)):
            return None
        if resumed.precision != step.precision:  # "auto" on a machine where another one pays
            step, advance = make(precision=resumed.precision)
            configuration["acceleration.precision"] = repr(step.precision)
    state = TrainingState(step, settings.random_seed)
    if resumed is not None:
        state.load_state_dict(resumed.state)
    has_bar = not together or settings.random_seed == together[0]
    trackers = Trackers(experiment, configuration, tracked_by)
    log = TrainingLog(experiment, state.done, settings.training_steps, processes.is_leader, has_bar, trackers)
    announced = []
    if processes.is_leader:
        steps_left = settings.training_steps - state.done
        needs = disk_needs(
            step,
            (channels, height, width),
            checkpoints.keep,
            num_formats,
            logged=steps_left // log.every_steps + 1,
            drawn=steps_left // pictures_every,
        ).of(max(1, len(together)))
        # Files that are there already belong to the resumed run, or are removed before the first step.
        room = check_disk(experiment.path, needs, bytes_below(experiment.path))
        announced = announcement(
            ground_truth_data,
            step,
            device,
            processes,
            state.done,
            settings.training_steps,
            experiment,
            needs,
            room,
            is_auto,
        )
    return Run(
        settings,
        experiment,
        ground_truth_data,
        processes,
        resume_from if resumed is not None else None,
        step,
        advance,
        state,
        checkpoints,
        log,
        pictures_every,
        configuration,
        gin.operative_config_str(),
        together,
        announced,
    )


def _moves(state: TrainingState) -> dict[str, Any]:
    """Return the provenance of a run that was resumed on another kind of device."""
    if len(state.devices) == 1:
        return {}
    moves = [{"step": step, "device": device} for step, device in state.devices.items()]
    return {"devices": moves, "note": "resumed on another kind of device, so not bit for bit the run that was begun"}


def _mean_losses(step: TrainingStep, batches: Iterator[Tensor], num_batches: int, updates: int) -> dict[str, float]:
    """Return the mean of each loss over this many batches, without updates."""
    with torch.no_grad(), step.arithmetic():
        evaluated = [step.losses(next(batches), updates).named for _ in range(num_batches)]
    return {name: float(torch.stack([losses[name] for losses in evaluated]).mean()) for name in evaluated[0]}
