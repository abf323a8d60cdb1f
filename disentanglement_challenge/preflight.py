"""Find mistakes before anything slow is imported, rendered or trained."""

import argparse
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

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
from disentanglement_challenge.gin_names import GIN_NAMES, parameters_of
from disentanglement_challenge.gin_text import Statements, read_statements

NOTHING: Mapping[str, Collection[str]] = MappingProxyType({})


def check_training(
    files: Sequence[str],
    bindings: Sequence[str],
    flags: argparse.Namespace,
    scores: bool = False,
    own_names: Mapping[str, Collection[str]] = NOTHING,
) -> Experiment:
    """Check gin files, data set and folder before training, and return the experiment.

    It prints a line with the bindings of the command line that this run does not use, if there are any.

    Args:
        files, bindings: as for `gin_configuration`.
        flags: overwrite, resume, resume_on and discard_unfinished.
        scores: whether the model is scored afterwards.
        own_names: gin names of the user's own metrics, with their parameters.

    Raises:
        ConfigError: a name, file or binding is unknown or missing.
        DataError: the data set is unknown, or its files are missing.
        OutputError: the experiment's folder cannot be used.
    """
    statements = read_statements(files, bindings)
    _check_names(statements, own_names)
    dataset = dataset_name(statements, get_dataset_name())
    training = training_reach(statements, dataset)
    check_required(statements, training, files)
    from disentanglement_challenge.data.named import check_available  # imported here, as --help need not wait for it

    check_available(dataset, bound(statements, "folder", "path"))
    experiment = Experiment.from_environment()
    resume = flags.resume or flags.resume_on is not None
    if is_leader():
        experiment.check_start(flags.overwrite, resume, flags.discard_unfinished)
        reaches = [training, scoring_reach(statements, dataset)] if scores else [training]
        _tell(unused_bindings(statements, reaches))
    return experiment


def check_scoring(
    files: Sequence[str],
    bindings: Sequence[str],
    overwrite: bool,
    alone: bool = False,
    own_names: Mapping[str, Collection[str]] = NOTHING,
) -> Experiment:
    """Check gin files, data set and folder before scoring without training, and return the experiment.

    Arguments are those of `check_training`. `alone` means that only some metrics are computed, in addition to existing
    scores; so does a binding of `evaluation.evaluation_fn`.
    """
    statements = read_statements(files, bindings)
    _check_names(statements, own_names)
    dataset = dataset_name(statements, get_dataset_name())
    experiment = Experiment.from_environment()
    if not os.path.exists(experiment.model_to_score):
        raise RepresentationError(
            f"there is no model {experiment.model_to_score}; train one first, or name an experiment with a model"
        )
    if not alone and bound(statements, "evaluation", "evaluation_fn") is None:
        experiment.check_scores(overwrite)
    _tell(unused_bindings(statements, [scoring_reach(statements, dataset)]))
    return experiment


def _check_names(statements: Statements, own_names: Mapping[str, Collection[str]]) -> None:
    def parameters(name: str) -> Collection[str] | None:
        return own_names[name] if name in own_names else parameters_of(name)

    check_names(statements, parameters, [*GIN_NAMES, *own_names])


def _tell(unused: Sequence[str]) -> None:
    if unused:
        them = "bindings are" if len(unused) > 1 else "binding is"
        print(f"{len(unused)} {them} not used by this run: {', '.join(unused)}", file=sys.stderr)
