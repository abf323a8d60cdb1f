"""A short run as on the evaluator: another user, no home folder, a read-only source tree."""

import grp
import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from disentanglement_challenge import tensorflow_stand_in
from disentanglement_challenge.data.embedded import SIZES
from disentanglement_challenge.environment import data_path
from disentanglement_challenge.errors import SubmissionError
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.submission import score_alone
from disentanglement_challenge.submission.findings import Finding, failed, passed
from disentanglement_challenge.submission.repository import clone

DATA_SET = "mpi3d_embedded"
# Added to run.sh's configuration; the networks do not change.
BINDINGS = ("model.training_steps = 5", "model.batch_size = 8", "model.eval_steps = 1")
TIME_LIMIT = 1800  # seconds; a run takes about ten, and half a minute more to render the data set
_UNPRIVILEGED = 60000  # Debian's system and ordinary accounts end below it


@dataclass(frozen=True)
class Account:
    """The user of the trial, with a description and the way to start a process."""

    description: str
    number: int | None = None
    prefix: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def run(
        self, command: Sequence[str | Path], folder: Path, environment: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.prefix, *map(str, command)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIME_LIMIT,
            check=False,
            **self.options,
        )

    def own(self, path: Path) -> None:
        """Hand a file or folder to the account."""
        if self.number is not None:
            os.chown(path, self.number, self.number)


class Trial:
    """A folder with a clean copy of the repository, and the inputs and outputs of a run in it."""

    def __init__(self, folder: Path, root: Path) -> None:
        """Clone the last commit of `root`; raise SubmissionError if git fails."""
        self.folder = folder
        self.copy = folder / "repository"
        folder.chmod(0o755)
        clone(root, self.copy)
        # Independent of the umask: everybody can read the copy, and nobody can write to it.
        subprocess.run(["chmod", "-R", "a+rX,a-w", self.copy], check=True)

    def close(self) -> None:
        """Make the copy removable again."""
        subprocess.run(["chmod", "-R", "u+w", self.copy], check=True)

    def run(self) -> Finding:
        """Execute run.sh on the embedded data set for a few steps, with AICROWD_IS_GRADING set."""
        account = self._account
        for name in ("output", "data", "temporary"):
            (self.folder / name).mkdir()
            account.own(self.folder / name)
        self._lend_data(account)
        with closing(socket.socket()) as taken:
            # A port that is bound but not listening, so that events reach neither a server nor a developer's Redis.
            taken.bind(("127.0.0.1", 0))
            environment = {
                **self._environment(),
                "AICROWD_IS_GRADING": "True",
                "AICROWD_OUTPUT_PATH": str(self.folder / "output"),
                "AICROWD_EVALUATION_NAME": "submission_check",
                "AICROWD_DATASET_NAME": DATA_SET,
                "DISENTANGLEMENT_LIB_DATA": str(self.folder / "data"),
                "AICROWD_REDIS_HOST": "127.0.0.1",
                "AICROWD_REDIS_PORT": str(taken.getsockname()[1]),
            }
            flags = [flag for binding in BINDINGS for flag in ("--gin_bindings", binding)]
            try:
                result = account.run([self.copy / "run.sh", *flags], self.copy, environment)
            except subprocess.TimeoutExpired:
                return failed(f"run.sh did not end within {TIME_LIMIT // 60} minutes, with {flags}")
            except OSError as error:
                return failed(f"cannot start run.sh: {error.strerror}")
        if result.returncode != 0:
            return failed(f"run.sh exited with {result.returncode}: {_last_line(result.stderr)}", result.stderr)
        if not self.model.is_file():
            return failed(f"run.sh wrote no {self.model.relative_to(self.folder / 'output')}", result.stderr)
        size = self.model.stat().st_size / 1e6
        return passed(f"run.sh as {account.description}, no HOME, a read-only tree: a model of {size:.1f} MB")

    @property
    def model(self) -> Path:
        """The path of the run's representation function."""
        return Experiment(self.folder / "output" / "submission_check").model

    def score(self) -> Finding:
        """Score the run's model in a process that cannot import this package."""
        if not self.model.is_file():
            return failed("there is no model to score, as the run wrote none")
        program = self.folder / "score_alone.py"
        for module in (score_alone, tensorflow_stand_in):
            shutil.copy(str(module.__file__), self.folder)
        images = self.folder / "data" / DATA_SET / "images.npy"
        sizes = ",".join(map(str, SIZES[DATA_SET]))
        try:
            result = self._account.run(
                [sys.executable, "-I", program, self.model, images, sizes], self.folder, self._environment()
            )
        except subprocess.TimeoutExpired:
            return failed(f"scoring did not end within {TIME_LIMIT // 60} minutes")
        if result.returncode != 0:
            return failed(_last_line(result.stderr).removeprefix("error: "), result.stderr)
        scores = ", ".join(f"{metric} {score:.2f}" for metric, score in json.loads(result.stdout).items())
        return passed(f"loaded and scored without this package: {scores}")

    @cached_property
    def _account(self) -> Account:
        return _unprivileged_account(self.folder)

    def _environment(self) -> dict[str, str]:
        # `python` is the Python of the check. There is no HOME, and nothing else of the caller's environment.
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
            "TMPDIR": str(self.folder / "temporary"),
        }
        if "OMP_NUM_THREADS" in os.environ:
            environment["OMP_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"]
        return environment

    def _lend_data(self, account: Account) -> None:
        """Link the local data set, if it exists and the account can read it, as rendering takes half a minute.

        If it is from another renderer, the run replaces the link by its own rendering.
        """
        mine, theirs = data_path().resolve() / DATA_SET, self.folder / "data" / DATA_SET
        files = [mine / "images.npy", mine / "images.json"]
        if not all(account.run(["test", "-r", file], self.folder, {}).returncode == 0 for file in files):
            return
        theirs.mkdir()
        (theirs / "images.npy").symlink_to(files[0])
        shutil.copyfile(files[1], theirs / "images.json")
        for path in (theirs, theirs / "images.json"):
            account.own(path)


def _unprivileged_account(folder: Path) -> Account:
    """Return an unused user number if the check runs as root, otherwise the current user.

    Raises SubmissionError if that user cannot run this Python.
    """
    if os.geteuid() != 0:
        return Account("yourself (start the check as root to use another user)")
    number = _unused_number()
    plain = Account(f"user {number}", number, options={"user": number, "group": number, "extra_groups": []})
    # Python is often in a folder that only root can read (~/.pyenv). A user with the single capability to read
    # everything can use it, and still write no more than an ordinary user.
    identity = ["--reuid", str(number), "--regid", str(number), "--clear-groups"]
    capabilities = [f"--{kind}=-all,+dac_read_search" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
    reading = Account(
        f"user {number}, allowed to read this Python's folder", number, ("setpriv", *identity, *capabilities)
    )
    for account in (plain, reading):
        try:
            if account.run([sys.executable, "-c", "import numpy"], folder, {}).returncode == 0:
                return account
        except OSError:  # the user cannot enter the folder
            continue
    raise SubmissionError(
        f"a user other than root cannot run {sys.executable}; make the environment in a folder that all can read, "
        "with a Python outside /root"
    )


def _unused_number() -> int:
    """Return a number that no user and no group has."""
    taken = {entry.pw_uid for entry in pwd.getpwall()} | {entry.gr_gid for entry in grp.getgrall()}
    return next(number for number in range(_UNPRIVILEGED, 2**16) if number not in taken)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    return lines[-1] if lines else "it printed nothing"
