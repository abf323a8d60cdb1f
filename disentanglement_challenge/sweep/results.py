"""Save the results of a sweep: a record of each finished run, and one file with all records."""

import json
from collections.abc import Iterable
from pathlib import Path

from disentanglement_challenge.environment import device as training_device
from disentanglement_challenge.errors import OutputError
from disentanglement_challenge.files import make_folder, remove, write_json
from disentanglement_challenge.gin_text import config_bindings
from disentanglement_challenge.sweep.runs import RECORD, Record, Run
from disentanglement_challenge.training.precision import precision_that_pays


class Results:
    """The results of one table on disk.

    Attributes:
        folder: contains `table.json`, which names the table, `results.json` with the records of all finished runs, and
            a folder for each run with its experiment and its `run.json`.
        auto_precision: the precision that "auto" means in all runs of the table, on any machine; saved in `table.json`.
    """

    def __init__(self, folder: Path, table: str) -> None:
        """Reserve the folder for this table; raise OutputError if it is another table's or cannot be written."""
        self.folder = folder
        self.table = table
        note = folder / "table.json"
        self._is_new = not note.is_file()
        kept = {} if self._is_new else _read(note, "choose another --output")
        if not self._is_new and kept.get("table") != table:
            raise OutputError(
                f"{folder} contains the results of {kept.get('table')}, not of {table}; choose another --output"
            )
        if self._is_new and folder.is_dir() and any(folder.iterdir()):
            raise OutputError(f"{folder} is not empty and contains no results of a table; choose another --output")
        self.auto_precision: str = kept.get("auto_precision") or precision_that_pays(training_device())[0]
        make_folder(folder)
        write_json(note, {"table": table, "auto_precision": self.auto_precision})

    def remove_if_empty(self) -> None:
        """Remove the folder if this sweep created it and it contains no runs."""
        if self._is_new and not self._records() and not any(self.folder.glob("*/seed_*")):
            remove(self.folder)

    def finished(self, runs: Iterable[Run]) -> dict[Run, Record]:
        """Return the records of the finished ones among these runs.

        Raises:
            OutputError: a finished run has another configuration, or its record is damaged.
        """
        found = {}
        for run in runs:
            path = self.folder / run.name / RECORD
            if path.is_file():
                record = _read(path)
                if record.get("config") != run.config:
                    raise OutputError(
                        f"{path.parent} has another configuration ({_difference(record, run)}); "
                        "choose another --output, or remove that folder"
                    )
                found[run] = record
        return found

    def kept(self) -> tuple[list[str], int]:
        """Return the rows that have a record, and one more than the largest seed."""
        runs = [path.parent for path in self._records()]
        seeds = [int(seed) for run in runs if (seed := run.name.removeprefix("seed_")).isdecimal()]
        return sorted({run.parent.name for run in runs}), max(seeds, default=-1) + 1

    def keep(self, run: Run, record: Record) -> None:
        """Write the record of a run that has just finished, and rewrite `results.json`."""
        make_folder(self.folder / run.name)
        write_json(self.folder / run.name / RECORD, record)
        self.write()

    def write(self) -> None:
        """Write `results.json` from the records; a record is newer than that file if a sweep was killed."""
        write_json(self.path, {"table": self.table, "runs": [_read(path) for path in self._records()]})

    def _records(self) -> list[Path]:
        return sorted(self.folder.glob(f"*/seed_*/{RECORD}"))

    @property
    def path(self) -> Path:
        """Return the path of `results.json`, with the records of all finished runs."""
        return self.folder / "results.json"


def _read(path: Path, advice: str = "remove it to repeat its run") -> Record:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} cannot be read ({error}); {advice}") from error
    if not isinstance(content, dict):
        raise OutputError(f"{path} is not a record of a sweep; {advice}")
    return content


def _difference(record: Record, run: Run) -> str:
    """Describe each setting that differs, with its old and its new value."""
    before, now = config_bindings(str(record.get("config"))), config_bindings(run.config)
    differing = [name for name in dict.fromkeys([*before, *now]) if before.get(name) != now.get(name)]
    differences = [f"{name} was {before.get(name, 'unset')} and is {now.get(name, 'unset')}" for name in differing]
    return ", ".join(differences) or "in a different order"
