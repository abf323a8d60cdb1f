"""Find the checkpoint that a training run starts from, and prepare its folder."""

import logging
import shutil
from collections.abc import Mapping, Sequence

from disentanglement_challenge.errors import ConfigError, TrainingError
from disentanglement_challenge.experiment import CHECKPOINT, Experiment
from disentanglement_challenge.files import make_folder, remove, remove_torn, replacing
from disentanglement_challenge.training.checkpoints import Checkpoint, load_newest, newest_first

_LOGGER = logging.getLogger(__name__)


def find_checkpoint(
    resume_from: Experiment | None,
    configuration: Mapping[str, str],
    training_steps: int,
    overwrite: bool,
    free: Sequence[str] = (),
) -> Checkpoint | None:
    """Return the checkpoint to resume training from; None if there is none or `overwrite` replaces it.

    `free` has names of the configuration that the checkpoint may differ in, beside those of every run.

    Raises:
        ConfigError: the checkpoint is of another configuration, or of more steps.
        TrainingError: there are checkpoints, and none can be read.
    """
    if resume_from is None:
        return None
    try:
        checkpoint = load_newest(resume_from.checkpoints, configuration, free)
        if checkpoint is not None and checkpoint.done > training_steps:
            raise ConfigError(
                f"model.training_steps is {training_steps}; the run has made {checkpoint.done} already; "
                "ask for more, or pass --overwrite to start anew"
            )
    except (ConfigError, TrainingError) as error:
        if not overwrite:
            raise
        _LOGGER.warning("%s; starting anew", error)
        return None
    return checkpoint


def is_whole(resume_from: Experiment | None, experiment: Experiment) -> bool:
    """Return whether `resume_from` is a finished run other than `experiment`."""
    return resume_from is not None and resume_from != experiment and resume_from.losses.exists()


def prepare_folder(experiment: Experiment, resumed: Experiment | None, done: int) -> None:
    """Remove everything from the folder that is not part of the run resumed after `done` steps."""
    if resumed is None:
        remove(experiment.path)
        make_folder(experiment.train)
        return
    checkpoints = newest_first(resumed.checkpoints)
    # What is newer could not be read, and would count as one of those that are kept.
    num_unreadable = checkpoints.index(resumed.checkpoints / CHECKPOINT.format(done))
    if resumed == experiment:
        remove_torn(experiment.path)
        remove(experiment.losses)
        for path in checkpoints[:num_unreadable]:
            remove(path)
        return
    remove(experiment.path)
    make_folder(experiment.train)
    names = ["events*", resumed.log.name]
    if resumed.place == experiment.place:  # otherwise trackers would add to the other run
        names.append(resumed.tracked.name)
    logs = [file for name in names for file in resumed.train.glob(name)]
    for file in (*logs, *checkpoints[num_unreadable:]):
        with replacing(experiment.train / file.relative_to(resumed.train)) as copy:
            shutil.copyfile(file, copy)
