"""Train several seeds of one configuration in one process, with shared steps, on a GPU.

Each seed's run is what it would be alone, with its own folder, batches, noise, log, checkpoints and model, and its
losses are the same up to rounding (`stacked`). Only the steps are made together. So each seed can be resumed alone, and
seeds that were trained alone, or that are at different steps, can be resumed together.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from types import MappingProxyType

from torch import Tensor

from disentanglement_challenge.allocation import keep_freed_memory
from disentanglement_challenge.config import bound_otherwise
from disentanglement_challenge.data.ground_truth import NamedGroundTruthData
from disentanglement_challenge.data.named import get_named_ground_truth_data
from disentanglement_challenge.environment import device as training_device
from disentanglement_challenge.environment import device_reason
from disentanglement_challenge.errors import ChallengeError, ConfigError, Interrupted
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.export.model_file import more_formats
from disentanglement_challenge.training.acceleration import Advance, GraphedStep, make_steps
from disentanglement_challenge.training.batches import batches_of_seeds, stacked_batches
from disentanglement_challenge.training.log import say
from disentanglement_challenge.training.run import Run, already_trained, export, prepare, summary_of
from disentanglement_challenge.training.settings import TrainingSettings
from disentanglement_challenge.training.stacked import StackedStep
from disentanglement_challenge.training.step import TrainingStep
from disentanglement_challenge.training.stopping import Stopping
from disentanglement_challenge.training.trackers import trackers_in_use

Outcomes = dict[int, str | ChallengeError]
"""By seed: what was done, in a sentence, or why it failed."""

NOTHING: Mapping[int, Experiment] = MappingProxyType({})


def train_and_export_together(
    experiments: Mapping[int, Experiment],
    overwrite: bool,
    resume: bool = False,
    ground_truth_data: NamedGroundTruthData | None = None,
    continue_from: Mapping[int, Experiment] = NOTHING,
    on_cpu: bool = False,
) -> Outcomes:
    """Train the model of gin's configuration under several seeds at once, and export each mean encoder.

    Leaves in each experiment's folder what `train_and_export` leaves there. A seed that fails, as its loss diverges or
    its folder cannot be written, fails alone.

    Args:
        experiments: where to write, by random seed.
        overwrite, resume, ground_truth_data: as for `train_and_export`.
        continue_from: as for `train_and_export`, by random seed.
        on_cpu: whether to allow this on a CPU, where it saves no kernel launches; tests do so.

    Raises:
        Interrupted: a signal stopped the runs; their models so far are exported.
        ConfigError: there is no GPU, or these seeds cannot share their steps.
        DataError: as loading the data set raises it.
    """
    keep_freed_memory()
    formats = more_formats()
    trackers_in_use()
    if training_device().type == "cpu" and not on_cpu:
        raise ConfigError(f"seeds are trained together on a GPU alone ({device_reason()}); train them one by one")
    if ground_truth_data is None:
        ground_truth_data = get_named_ground_truth_data()
    outcomes: Outcomes = {}
    runs: dict[int, Run] = {}
    with ExitStack() as stack:
        for seed, experiment in experiments.items():
            with _failing_alone(outcomes, seed), bound_otherwise("model.random_seed", seed):
                settings = TrainingSettings()
                experiment.check_start(overwrite, resume)
                stack.enter_context(experiment.training())
                run = prepare(
                    settings,
                    experiment.unfinished,
                    ground_truth_data,
                    (experiment.resumable() if resume else None) or continue_from.get(seed),
                    overwrite,
                    num_formats=1 + len(formats),
                    together=list(experiments),
                )
                if run is None:
                    outcomes[seed] = already_trained(experiment)
                else:
                    runs[seed] = run
        # Print a line that several runs share only once.
        for line in dict.fromkeys(line for run in runs.values() for line in run.announcement):
            say(line)
        for seed, run in list(runs.items()):
            with _failing_alone(outcomes, seed):
                run.begin()
            if seed in outcomes:
                del runs[seed]
        if runs:
            _train(experiments, runs, formats, outcomes)
    return outcomes


def _train(
    experiments: Mapping[int, Experiment], runs: Mapping[int, Run], formats: Sequence[str], outcomes: Outcomes
) -> None:
    """Train and export prepared runs, and add the outcome of each."""
    seeds, (first, *_) = list(runs), runs.values()
    states = [run.state for run in runs.values()]
    batches = batches_of_seeds(
        first.ground_truth_data, first.batch_size, [state.random for state in states], training_device()
    )
    step, advance = make_stacked_step(
        [(run.step, run.advance) for run in runs.values()], [state.done for state in states]
    )
    steps = make_steps(step, advance, stacked_batches(batches))
    stopping = Stopping(first.settings.time_limit)
    stopped: list[Interrupted] = []
    asked: dict[int, int] = {}  # for how many steps at the most, by each seed whose run goes on

    with stopping, ExitStack() as stack:
        loops = {seed: stack.enter_context(closing(run.loop(stopping))) for seed, run in runs.items()}

        def go_on(seed: int, made: tuple[int, Mapping[str, Tensor]] | None = None) -> None:
            with _failing_alone(outcomes, seed):
                try:
                    asked[seed] = loops[seed].send(made) if made else next(loops[seed])
                    return
                except StopIteration as end:
                    stop, failure = end.value
                # Now, as further steps of the others draw from this seed's streams and move its weights.
                run = runs[seed]
                trained = run.end(max(stop, stopping.reason), failure, batches[seeds.index(seed)])
                model = export(experiments[seed], trained, run.ground_truth_data, formats)
                try:
                    outcomes[seed] = summary_of(trained, model)
                except Interrupted as stop:
                    outcomes[seed] = str(stop)
                    stopped.append(stop)
            asked.pop(seed, None)

        for seed in seeds:
            go_on(seed)
        done = 0
        while asked:
            count = min(steps.at_once, *asked.values())
            losses = steps(done, count)
            done += count
            for place, seed in enumerate(seeds):
                if seed in asked:
                    go_on(seed, (count, {name: values[..., place] for name, values in losses.items()}))
    if stopped:
        raise stopped[0]


def make_stacked_step(
    seeds: Sequence[tuple[TrainingStep, Advance]], done: Sequence[int]
) -> tuple[StackedStep, Advance]:
    """Combine the results of `make_step` for several seeds, which have made `done` updates, into one step."""
    step = StackedStep([own for own, _ in seeds], done)
    return step, GraphedStep(step) if isinstance(seeds[0][1], GraphedStep) else step


@contextmanager
def _failing_alone(outcomes: Outcomes, seed: int) -> Iterator[None]:
    """Make an error inside the block the outcome of this seed alone."""
    try:
        yield
    except ChallengeError as error:
        outcomes[seed] = error
