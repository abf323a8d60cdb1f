import json
import os
import re
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent


def pins(lines):
    return {line.split("#")[0].strip() for line in lines if "==" in line.split("#")[0]}


def test_environment_yml_has_the_pins_of_requirements_txt():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    packages = environment["dependencies"]
    assert "python=3.11" in packages
    assert "pip" in packages
    assert pins(packages[-1]["pip"]) == pins((ROOT / "requirements.txt").read_text().splitlines())


def test_every_requirement_is_pinned_and_has_a_reason():
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text().splitlines():
            if line and not line.startswith(("#", "-r")):
                assert re.fullmatch(r"[\w.-]+==[\w.]+ +# .{5,}", line), line


def test_aicrowd_json_names_the_challenge():
    content = json.loads((ROOT / "aicrowd.json").read_text())
    assert content["challenge_id"] == content["grader_id"] == "aicrowd-neurips-2019-disentanglement-challenge"
    assert isinstance(content["authors"], list)
    assert isinstance(content["gpu"], bool)


def test_apt_txt_asks_for_nothing():
    assert all(line.startswith("#") for line in (ROOT / "apt.txt").read_text().splitlines())


def run_sh(tmp_path, **environment):
    """Runs run.sh with a `python` that prints what it was started with."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$AICROWD_DATASET_NAME|$NDC_ROOT|$@"\n')
    python.chmod(0o755)
    result = subprocess.run(
        [ROOT / "run.sh"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.strip().split("|")


def test_run_sh_sources_a_local_environment_off_the_evaluator(tmp_path):
    dataset, root, arguments = run_sh(tmp_path)
    assert dataset == "mpi3d_embedded"
    assert root == str(ROOT)
    assert arguments == f"{ROOT}/train_pytorch.py --gin_config {ROOT}/gin/stage1.gin"


def test_run_sh_sources_none_on_the_evaluator(tmp_path):
    dataset, _, arguments = run_sh(tmp_path, AICROWD_IS_GRADING="True")
    assert dataset == ""
    assert arguments == f"{ROOT}/train_pytorch.py --overwrite --resume --gin_config {ROOT}/gin/stage1.gin"
    assert run_sh(tmp_path, AICROWD_IS_GRADING="True", AICROWD_DATASET_NAME="mpi3d_real")[0] == "mpi3d_real"
