"""Make and carry out the runs of a table: one for each row, which is a gin file, and each seed."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gin

from disentanglement_challenge.checks import check_count, check_number
from disentanglement_challenge.config import bound_value, gin_configuration
from disentanglement_challenge.environment import GIN_FOLDER, get_dataset_name
from disentanglement_challenge.errors import ChallengeError, ConfigError, did_you_mean
from disentanglement_challenge.evaluation.harness import check_settings, evaluate
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.files import copy_folder, make_folder, read_json, remove, write_json
from disentanglement_challenge.gin_checks import (
    check_names,
    check_required,
    dataset_name,
    scoring_reach,
    training_reach,
    unused_bindings,
)
from disentanglement_challenge.gin_text import read_statements
from disentanglement_challenge.metrics import METRICS
from disentanglement_challenge.pages.results import natural_order
from disentanglement_challenge.training.checkpoints import newest_first
from disentanglement_challenge.training.precision import AUTO
from disentanglement_challenge.training.run import train_and_export
from disentanglement_challenge.training.seeds import train_and_export_together

# What is counted in training steps, and so divided with them, and what checks it.
STEP_PARAMETERS: dict[str, Callable[[str, object], float]] = {
    "model.training_steps": check_count,
    "annealed_vae.iteration_threshold": partial(check_number, above=0),
}

# The file with a run's record, in its experiment's folder.
RECORD = "run.json"

Record = dict[str, Any]
"""What is kept of a finished run: row, seed, training_steps, num_latent, dataset, scores, unofficial_settings, losses,
seconds of this row's own work, commit, config. `continued_from` names the table and row whose training this one
continues, `same_as` those of the same configuration that were trained for both; each is None where there are none."""


@dataclass(frozen=True)
class Run:
    """One row of a table under one seed.

    Attributes:
        table: the name of the table's folder.
        row: the stem of the row's gin file.
        seed: of training; the metrics keep their official seed.
        gin_files: the row's file and those that override it.
        gin_bindings: what overrides them all.
        config: the configuration that these make, as gin writes it.
    """

    table: str
    row: str
    seed: int
    gin_files: tuple[str, ...]
    gin_bindings: tuple[str, ...]
    config: str

    @property
    def name(self) -> str:
        """Return the run's folder, relative to that of its table's results."""
        return f"{self.row}/seed_{self.seed}"

    @property
    def title(self) -> str:
        """Return the run's name with that of its table."""
        return f"{self.table}/{self.name}"


def table_folder(table: str) -> Path:
    """Return a table's folder of gin files, given as a path or as a name below the project's gin folder.

    Raises:
        ConfigError: there is no such folder, or no gin file in it.
    """
    for candidate in (Path(table), GIN_FOLDER / table):
        if candidate.is_dir() and any(candidate.glob("*.gin")):
            return candidate.resolve()
    known = sorted({str(file.parent.relative_to(GIN_FOLDER)) for file in GIN_FOLDER.glob("*/*.gin")})
    raise ConfigError(
        f"{table!r} is not a folder of gin files, one for each row; tables here are {', '.join(known)}"
        f"{did_you_mean(Path(table).name, known)}"
    )


def choose_rows(folder: Path, wanted: Sequence[str] | None) -> list[str]:
    """Return all or the wanted rows of a table, in natural order.

    Raise ConfigError for a row that the table does not have.
    """
    rows = sorted((file.stem for file in folder.glob("*.gin")), key=natural_order)
    for row in wanted or ():
        if row not in rows:
            raise ConfigError(f"{folder.name} has no row {row!r}; rows are {', '.join(rows)}{did_you_mean(row, rows)}")
    return [row for row in rows if not wanted or row in wanted]


def make_runs(
    folder: Path,
    rows: Sequence[str],
    seeds: int,
    gin_files: Sequence[str] = (),
    gin_bindings: Sequence[str] = (),
    divide_steps: int = 1,
    auto_precision: str = "float32",
) -> tuple[list[Run], dict[str, str]]:
    """Return the runs of these rows, seed by seed, and an error text for each row whose configuration cannot be read.

    The first seed of all rows comes before the second of any, so that a sweep that is stopped early has whole columns.

    Args:
        folder: the table's.
        rows: of the table.
        seeds: how many; they are 0, 1 and so on.
        gin_files, gin_bindings: override every row's.
        divide_steps: what `STEP_PARAMETERS` are divided by, rounding down, to no less than 1. Rows that differ, and
            would not after that, cannot be run.
        auto_precision: see `Results`.
    """
    runs: list[Run] = []
    broken: dict[str, str] = {}
    for seed in range(seeds):
        for row in rows:
            # As gin looks for them, so that they are found on every machine of a cluster.
            file = folder / f"{row}.gin"
            row_file = str(file.relative_to(GIN_FOLDER)) if file.is_relative_to(GIN_FOLDER) else str(file)
            files = (row_file, *gin_files)
            try:
                runs.append(_make_run(folder.name, row, seed, files, gin_bindings, divide_steps, auto_precision))
            except ChallengeError as error:
                broken[row] = str(error).splitlines()[0]
    if divide_steps > 1:
        equal = _equal_rows(runs)
        whole, _ = make_runs(folder, sorted({*equal, *equal.values()}), 1, gin_files, gin_bindings, 1, auto_precision)
        before = {run.row: run.config for run in whole}
        for row, other in equal.items():
            if before[row] != before[other]:
                broken[row] = f"--divide_steps {divide_steps} would make it the same run as {other}; divide by less"
    return [run for run in runs if run.row not in broken], broken


def _equal_rows(runs: Sequence[Run]) -> dict[str, str]:
    """Return the rows with the configuration of an earlier row, and that row."""
    first: dict[str, str] = {}
    pairs = [(run.row, first.setdefault(run.config, run.row)) for run in runs]
    return {row: other for row, other in pairs if row != other}


def unused_by_all(runs: Sequence[Run], gin_bindings: Sequence[str]) -> list[str]:
    """Return the overriding bindings that no run uses."""
    unused = []
    for files in {run.gin_files for run in runs}:
        statements = read_statements(files, gin_bindings)
        dataset = dataset_name(statements, get_dataset_name())
        reaches = [training_reach(statements, dataset), scoring_reach(statements, dataset)]
        unused.append(unused_bindings(statements, reaches))
    return [binding for binding in unused[0] if all(binding in others for others in unused)] if unused else []


def _make_run(
    table: str,
    row: str,
    seed: int,
    files: tuple[str, ...],
    bindings: Sequence[str],
    divide_steps: int,
    auto_precision: str,
) -> Run:
    statements = read_statements(files, bindings)
    check_names(statements)
    check_required(statements, training_reach(statements, dataset_name(statements, get_dataset_name())), files)
    check_settings(files, bindings)
    bound_seed = statements.effective.get(("", "model", "random_seed"))
    if bound_seed is not None and (bound_seed.is_given or bound_seed.value != 0):  # 0 is gin/shared.gin's
        raise ConfigError(
            f"{bound_seed.source}: model.random_seed cannot be bound, as a sweep's seeds are 0, 1 and so on, "
            "--seeds of them"
        )
    with gin_configuration(files, bindings):
        if bound_value("evaluation.evaluation_fn") is not None:
            raise ConfigError(
                "evaluation.evaluation_fn is bound; a sweep computes the challenge's five scores, so leave it out"
            )
        divided = [
            f"{name} = {max(1, check(name, bound_value(name)) // divide_steps)}"
            for name, check in STEP_PARAMETERS.items()
            if divide_steps > 1 and bound_value(name) is not None
        ]
        # The environment of this machine, not of the one that the run is sent to, says which data set "auto" is.
        dataset = get_dataset_name() if bound_value("dataset.name") in (None, "auto") else bound_value("dataset.name")
        is_auto = bound_value("acceleration.precision") == AUTO
    settled = [f"acceleration.precision = {auto_precision!r}"] if is_auto else []
    added = (*bindings, *divided, *settled, f"dataset.name = {dataset!r}", f"model.random_seed = {seed}")
    with gin_configuration(files, added):
        return Run(table, row, seed, files, added, gin.config_str())


def finished_record(run: Run, folder: Path) -> Record | None:
    """Return the record of this run in the folder of its table's results; None if it is not finished there."""
    path = folder / run.name / RECORD
    if not path.is_file():
        return None
    record = read_json(path)
    return record if isinstance(record, dict) and record.get("config") == run.config else None


def train_together(
    runs: Sequence[Run], folders: Mapping[str, Path], bases: Mapping[int, tuple[Run, Path]]
) -> dict[int, float | ChallengeError]:
    """Train and export the runs of one row under several seeds, by shared steps.

    Args:
        runs: which differ in their seed alone.
        folders: of the tables' results, by the tables' names.
        bases: as for `carry_out`, by seed.

    Returns:
        By seed, its share of the seconds that this took, or why its training failed.

    Raises ChallengeError where all fail for one reason.
    """
    started = time.monotonic()
    experiments = {run.seed: Experiment(folders[run.table] / run.name) for run in runs}
    continued = {seed: Experiment(folder / base.name) for seed, (base, folder) in bases.items()}
    with gin_configuration(runs[0].gin_files, runs[0].gin_bindings):
        outcomes = train_and_export_together(experiments, overwrite=True, resume=True, continue_from=continued)
    share = (time.monotonic() - started) / len(runs)
    return {seed: done if isinstance(done, ChallengeError) else share for seed, done in outcomes.items()}


def carry_out(run: Run, folder: Path, base: tuple[Run, Path] | None = None, trained_in: float | None = None) -> Record:
    """Train, export and score one run, as the experiment of its name below the folder, and write its record there.

    It is resumed from the checkpoint of a process that died at it. A run that is finished is not made again.

    Args:
        run: to be carried out.
        folder: of its table's results.
        base: a finished run of the same training and fewer steps, with its folder, whose training this one's continues.
        trained_in: the seconds that its training took, where `train_together` has trained and exported it.

    Raises ChallengeError as the stages do.
    """
    record = finished_record(run, folder)
    if record is not None:
        return record
    started = time.monotonic() - (trained_in or 0)
    experiment = Experiment(folder / run.name)
    continued = None if base is None else Experiment(base[1] / base[0].name)
    if continued is not None and not continued.has_checkpoints:  # it was taken over from another table
        base = continued = None
    with gin_configuration(run.gin_files, run.gin_bindings):
        steps, num_latent = bound_value("model.training_steps"), bound_value("encoder.num_latent")
        if trained_in is None:
            train_and_export(experiment, overwrite=True, resume=True, continue_from=continued)
    if continued is not None:  # remove the checkpoints that were copied from the base run
        for checkpoint in newest_first(continued.checkpoints):
            remove(experiment.checkpoints / checkpoint.name)
    scores = evaluate(experiment, run.gin_files, run.gin_bindings, overwrite=True)
    record = {
        "row": run.row,
        "seed": run.seed,
        "training_steps": steps,
        "num_latent": num_latent,
        "dataset": scores.data["name"],
        "scores": {metric: scores[metric] for metric in METRICS},
        "unofficial_settings": scores.unofficial,
        "losses": read_json(experiment.losses),
        "seconds": time.monotonic() - started,
        "commit": read_json(experiment.train_provenance)["commit"],
        "continued_from": None if base is None else {"table": base[0].table, "row": base[0].row},
        "same_as": None,
        "config": run.config,
    }
    write_json(experiment.path / RECORD, record)
    return record


def take_over(run: Run, folder: Path, done: tuple[Run, Path]) -> Record:
    """Finish a run by copying a finished one of the same configuration, without its checkpoints.

    Args:
        run: to be finished.
        folder: of its table's results.
        done: the finished run, with its folder.

    Raises:
        OutputError: the folder cannot be written.
    """
    record = finished_record(run, folder)
    if record is not None:
        return record
    source, experiment = Experiment(done[1] / done[0].name), Experiment(folder / run.name)
    remove(experiment.path)
    make_folder(experiment.path.parent)
    # Its record may be rewritten right now, by way of a temporary file (`files.replacing`).
    records = (RECORD, f".{RECORD}.")
    copy_folder(
        source.path,
        experiment.path,
        lambda path: path == source.checkpoints or (path.parent == source.path and path.name.startswith(records)),
    )
    record = {
        **read_json(source.path / RECORD),
        "row": run.row,
        "same_as": {"table": done[0].table, "row": done[0].row},
    }
    write_json(experiment.path / RECORD, record)
    return record
