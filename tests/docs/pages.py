"""Running the sections of pages in folders that look like the top of the checkout."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from blocks import blocks
from conftest import ROOT

MINUTES = "a whole run takes minutes"
HOURS = "takes hours"
INSTALLS = "installs packages, and runs everything"
NETWORK = "downloads from, or pushes to, an address"
READERS = "names files and experiments of the reader's; docs/extending.md runs the same on some"

# Blocks that are not run here, by page and how they begin, and why. Their flags and gin names are checked all the same.
NOT_RUN = {
    ("README.md", "make run "): INSTALLS,
    ("README.md", "python -m disentanglement_challenge.score codes.npy"): READERS,
    ("README.md", "python run.py --gin_config relu.gin"): MINUTES,
    ("README.md", "python -m disentanglement_challenge.sweep gin/table1"): MINUTES,
    ("CONTRIBUTING.md", "git clone "): INSTALLS,
    ("docs/configuration.md", "python run.py --gin_config relu.gin"): MINUTES,
    ("docs/data.md", "python -m disentanglement_challenge.data list"): NETWORK,
    ("docs/data.md", "python run.py --dataset folder"): READERS,
    ("docs/results.md", "python -m disentanglement_challenge.sweep gin/table1 --seeds 3"): HOURS,
    ("docs/results.md", "python -m disentanglement_challenge.sweep gin/table1 gin/table3"): HOURS,
    ("docs/results.md", "python run.py --gin_config stage1.gin"): HOURS,
    ("docs/results.md", "python run.py --gin_config table3/3072.gin"): MINUTES,
    ("docs/results.md", "python -m disentanglement_challenge.sweep select"): READERS,
    ("docs/results.md", "python -m disentanglement_challenge.sweep gin/precision"): HOURS,
    ("docs/scores-and-speed.md", "python -m disentanglement_challenge.score codes.npy"): READERS,
    ("docs/scores-and-speed.md", "python run.py --evaluate_only"): READERS,
    ("docs/scores-and-speed.md", "WANDB_MODE=offline python run.py"): MINUTES,
    ("docs/scores-and-speed.md", "make check-scores "): READERS,
    ("docs/scores-and-speed.md", "make bench "): HOURS,
    ("docs/scores-and-speed.md", "python -m disentanglement_challenge.pages EXPERIMENT"): READERS,
    ("docs/sharing.md", "python -m disentanglement_challenge.hub push"): NETWORK,
    ("docs/submitting.md", "make submission-check"): NETWORK,
    ("docs/submitting.md", "make aicrowd-cli "): NETWORK,
}
NUM_NOT_RUN = 23

# What a page leaves to its reader.
GIVEN = {"docs/conformance.md": "from disentanglement_challenge.metrics import mig as yours"}


def not_run(block):
    """The keys of `NOT_RUN` that a block has; none where it is run."""
    return [key for key in NOT_RUN if block.page == key[0] and block.language == "sh" and block.text.startswith(key[1])]


class Runner:
    """A process that has imported what the pages need, and runs each section in a fork of itself."""

    def __init__(self, data_path):
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DISENTANGLEMENT_LIB_DATA": str(data_path),
            "OMP_NUM_THREADS": "1",
            "AICROWD_CUDA": "False",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        for name in ("AICROWD_OUTPUT_PATH", "AICROWD_EVALUATION_NAME", "AICROWD_DATASET_NAME", "AICROWD_IS_GRADING"):
            self._environment.pop(name, None)
        self._process = None

    def run(self, page, section, folder):
        """Runs what can be run of a section; fails with what it printed."""
        for script in ("run.py", "train_pytorch.py", "utils_pytorch.py"):
            shutil.copy(ROOT / script, folder)
        for name in ("gin", "docs"):
            shutil.copytree(ROOT / name, folder / name)
        steps = [
            (block.language, block.file, block.text)
            for block in blocks()
            if (block.page, block.section) == (page, section)
            and block.language in ("python", "gin", "csv", "sh")
            and not not_run(block)
        ]
        assert steps, f"{page} has no code in section {section!r}"
        if page in GIVEN:
            steps.insert(0, ("python", None, GIVEN[page]))
        # A file's name is no part of a table.
        steps = [
            (language, file, text.split("\n", 1)[1] if language == "csv" else text) for language, file, text in steps
        ]
        output = folder / "output.txt"
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, Path(__file__).parent / "runner.py"],
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        request = {"folder": str(folder), "output": str(output), "steps": steps}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        code = self._process.stdout.readline().strip()
        assert code == "0", f"{page}, {section}: ended with {code or 'nothing'}\n{output.read_text()[-4000:]}"

    def close(self):
        """Ends the process."""
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait(timeout=30)


def sections(page):
    """The sections of a page that have code to run."""
    return list(
        dict.fromkeys(
            block.section
            for block in blocks()
            if block.page == page and block.language in ("python", "sh") and not block.file and not not_run(block)
        )
    )
