"""What can be said to be wrong before anything heavy is imported, rendered or trained."""

import argparse
import sys
from collections.abc import Sequence

from disentanglement_challenge.environment import get_dataset_name, is_leader
from disentanglement_challenge.errors import RepresentationError
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.gin_checks import (
    bound,
    check_names,
    check_required,
    dataset_name,
    scoring_reach,
    training_reach,
    unused_bindings,
)
from disentanglement_challenge.gin_text import read_statements


def check_training(
    files: Sequence[str], bindings: Sequence[str], flags: argparse.Namespace, scores: bool = False
) -> Experiment:
    """The experiment that the scripts train, after a look at gin files, data set and folder.

    Prints a line that names the bindings of the command line that this run does not use, if there are any.

    Args:
        files, bindings: as for `gin_configuration`.
        flags: overwrite, resume, resume_on and discard_unfinished.
        scores: whether the model is scored afterwards.

    Raises:
        ConfigError: a name, file or binding that means nothing, or one that is missing.
        DataError: a data set that is unknown, or whose files are not there.
        OutputError: the experiment cannot be trained there.
    """
    statements = read_statements(files, bindings)
    check_names(statements)
    dataset = dataset_name(statements, get_dataset_name())
    training = training_reach(statements, dataset)
    check_required(statements, training, files)
    from disentanglement_challenge.data.named import check_available  # not for --help, which takes as long otherwise

    check_available(dataset, bound(statements, "folder", "path"))
    experiment = Experiment.from_environment()
    resume = flags.resume or flags.resume_on is not None
    if is_leader():
        experiment.check_start(flags.overwrite, resume, flags.discard_unfinished)
        reaches = [training, scoring_reach(statements, dataset)] if scores else [training]
        _tell(unused_bindings(statements, reaches))
    return experiment


def check_scoring(files: Sequence[str], bindings: Sequence[str], overwrite: bool, alone: bool = False) -> Experiment:
    """The experiment that is scored without being trained, after the same look; as `check_training`.

    With `alone` for some metrics alone, beside the scores that are there.
    """
    statements = read_statements(files, bindings)
    check_names(statements)
    dataset = dataset_name(statements, get_dataset_name())
    experiment = Experiment.from_environment()
    if not experiment.model_to_score.exists():
        raise RepresentationError(
            f"no model at {experiment.model_to_score}; train one first, or name the experiment that has one"
        )
    if not alone:
        experiment.check_scores(overwrite)
    _tell(unused_bindings(statements, [scoring_reach(statements, dataset)]))
    return experiment


def _tell(unused: Sequence[str]) -> None:
    if unused:
        them = "bindings are" if len(unused) > 1 else "binding is"
        print(f"{len(unused)} {them} not used by this run: {', '.join(unused)}", file=sys.stderr)
