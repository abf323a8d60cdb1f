"""Group runs into trainings: runs of one configuration, and runs that differ only in their training steps.

A network that is trained for 40 steps is, after 20, the network that is trained for 20. So rows that differ in
`model.training_steps` alone are trained as one: the shortest to its end, the next from its checkpoint.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from disentanglement_challenge.sweep.runs import Run

# As gin writes a configuration: sorted, each short binding on a line of its own.
_STEPS = re.compile(r"^model\.training_steps = (\d+)$", re.MULTILINE)
# A limit counts a process's time, so that where training ends depends on what it continued from.
_TIME_LIMIT = re.compile(r"^model\.time_limit = (?!None$)", re.MULTILINE)


@dataclass(frozen=True)
class Training:
    """Runs that are carried out as one training.

    Attributes:
        stages: the runs of each number of steps, the fewest first; those of one stage have one configuration.
    """

    stages: tuple[tuple[Run, ...], ...]

    @property
    def runs(self) -> list[Run]:
        """Return all runs in the order of the stages."""
        return [run for stage in self.stages for run in stage]


def trainings(runs: Sequence[Run]) -> list[Training]:
    """Group runs into trainings, in the order of each training's first run."""
    found: dict[str, dict[int, list[Run]]] = {}
    for run in runs:
        configuration, steps = _apart_from_steps(run.config)
        found.setdefault(configuration, {}).setdefault(steps, []).append(run)
    return [Training(tuple(tuple(stages[steps]) for steps in sorted(stages))) for stages in found.values()]


def seeds_of_rows(found: Sequence[Training]) -> list[list[Training]]:
    """Group trainings that differ only in the seed, in the order of each group's first."""
    groups: dict[tuple[tuple[tuple[str, str], ...], ...], list[Training]] = {}
    for training in found:
        rows = tuple(tuple((run.table, run.row) for run in stage) for stage in training.stages)
        groups.setdefault(rows, []).append(training)
    return list(groups.values())


def _apart_from_steps(config: str) -> tuple[str, int]:
    """Return the configuration without the training steps, and the training steps."""
    steps = _STEPS.search(config)
    if steps is None or _TIME_LIMIT.search(config):  # a macro may stand for the steps of more than training
        return config, 0
    return _STEPS.sub("", config), int(steps[1])
