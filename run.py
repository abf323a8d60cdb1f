#!/usr/bin/env python
"""Train, export and score one experiment: from nothing to the challenge's five scores.

Without flags it trains FactorVAE on the embedded data set, a rendered stand-in for MPI3D. Scores on it are not the
challenge's.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence

from disentanglement_challenge.cli import Parser, add_common_flags, add_training_flags, apply_common_flags, run_script
from disentanglement_challenge.environment import is_torchrun
from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.preflight import check_scoring, check_training

DEFAULT_CONFIG = "mpi3d_embedded.gin"


def main(flags: argparse.Namespace) -> None:
    started = time.monotonic()
    if is_torchrun():
        raise ConfigError("run.py scores in one process; torchrun train_pytorch.py, then run.py --evaluate_only")
    training_only = [name for name in ("resume", "resume_on", "discard_unfinished") if getattr(flags, name)]
    if flags.evaluate_only and training_only:
        raise ConfigError(f"--evaluate_only trains nothing; leave out --{training_only[0]}")
    bindings = apply_common_flags(flags)
    files = flags.gin_config or ([] if flags.evaluate_only else [DEFAULT_CONFIG])
    own_names = _own_names(flags.metrics or ())
    if flags.evaluate_only:
        experiment = check_scoring(files, bindings, flags.overwrite, bool(flags.metrics), own_names)
    else:
        experiment = check_training(files, bindings, flags, scores=True, own_names=own_names)
    # Imported here, so that mistakes are reported before PyTorch and the metrics are imported.
    from disentanglement_challenge.config import gin_configuration
    from disentanglement_challenge.evaluation.bindings import register
    from disentanglement_challenge.evaluation.harness import check_before_training, evaluate
    from disentanglement_challenge.evaluation.score import chosen
    from disentanglement_challenge.evaluation.scores import print_scores
    from disentanglement_challenge.metrics import METRICS, RECORDS

    metrics = list(RECORDS.values()) if flags.all_metrics else chosen(flags.metrics) if flags.metrics else None
    ground_truth_data = None
    if not flags.evaluate_only:
        from disentanglement_challenge.training.run import train_and_export

        register(metrics or ())
        with gin_configuration(files, bindings):
            ground_truth_data = check_before_training(metrics, files)  # before training, which may take days
            print(
                train_and_export(
                    experiment,
                    overwrite=flags.overwrite,
                    resume=flags.resume,
                    resume_on=flags.resume_on,
                    discard_unfinished=flags.discard_unfinished,
                    ground_truth_data=ground_truth_data,
                )
            )
        print(f"representation function: {experiment.model}")
        if experiment.scores.exists():  # new training would have removed them
            if flags.all_metrics or flags.metrics or flags.sandbox:
                raise ConfigError(
                    f"{experiment.name} was trained and scored already; to score its model again, or by other metrics, "
                    "pass --evaluate_only"
                )
            print(f"scores: {experiment.scores}   (from before; --evaluate_only --overwrite computes them again)")
            draw_page(experiment, flags.debug)
            return
    scores = evaluate(experiment, files, bindings, flags.overwrite, metrics, flags.sandbox, ground_truth_data)
    if flags.evaluate_only:  # the model may be TorchScript, a torch.export program or ONNX
        print(f"representation function: {experiment.model_to_score}")
        if experiment.is_interrupted:
            print("its training was stopped before its end; --resume continues it")
    print_scores(scores)
    where = experiment.scores if set(scores) >= set(METRICS) else experiment.metrics
    print(f"scores: {where}   (whole run: {time.monotonic() - started:.0f} s)")
    draw_page(experiment, flags.debug)


def _own_names(metrics: Sequence[str]) -> dict[str, list[str]]:
    """Return the gin names of metrics that are given as module:RECORD."""
    own = [name for name in metrics if ":" in name]
    if not own:
        return {}
    from disentanglement_challenge.evaluation.score import chosen

    return {name: parameters for metric in chosen(own) for name, parameters in metric.gin_names().items()}


def draw_page(experiment: Experiment, debug: bool) -> None:
    """Draw the experiment's page; if that fails, print a line, as the run itself has succeeded."""
    try:
        # Imported here, so that mistakes are reported before matplotlib is imported.
        from disentanglement_challenge.pages.experiment_page import write_page

        print(f"page: {write_page(experiment)}")
    except Exception as error:
        if debug:
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        again = f"python -m disentanglement_challenge.pages {shlex.quote(str(experiment.path))}"
        print(f"cannot draw the page ({reason:.300}); the scores are kept; to try again, run {again}", file=sys.stderr)


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the script's flags."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_flags(parser, DEFAULT_CONFIG)
    add_training_flags(parser)
    parser.add_argument(
        "--evaluate_only", action="store_true", help="score the experiment's existing model, without training"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--all_metrics",
        action="store_true",
        help="compute all available metrics, not only the challenge's five",
    )
    which.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        help="compute only these, and do not change scores.json; module:RECORD for your own metric",
    )
    parser.add_argument(
        "--sandbox",
        action="store_true",
        help="for untrusted models: run the model in a child process with limits on time and memory "
        "(sandbox.time_limit, sandbox.memory_limit)",
    )
    return parser


if __name__ == "__main__":
    parsed = make_parser().parse_args()
    run_script(lambda: main(parsed), parsed.debug)
