"""The Makefile's choice of Python, and its error without one; nothing is installed."""

import os
import shutil
import subprocess

import pytest
from conftest import ROOT
from messages import assert_error_line

# Answers the Makefile's questions to a Python, and does nothing else.
PYTHON = """#!/bin/sh
case "$*" in
  *version_info*) echo {version} ;;
  *ensurepip*) exit {has_no_venv} ;;
  *venv*) mkdir -p {venv}/bin && cp "$0" {venv}/bin/python ;;
esac
"""


@pytest.fixture
def make(tmp_path):
    """Return a function that runs make with these Pythons on the PATH; those with a * cannot make environments."""

    def run(pythons, *arguments, goal=".installed"):
        shutil.rmtree(tmp_path / "bin", ignore_errors=True)
        (tmp_path / "bin").mkdir()
        for tool in ("make", "sh", "rm", "touch", "mkdir", "cp"):
            (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
        for name, version in pythons.items():
            script = tmp_path / "bin" / name
            words = {"version": version.strip("*"), "has_no_venv": int("*" in version), "venv": tmp_path / "venv"}
            script.write_text(PYTHON.format(**words))
            script.chmod(0o755)
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "PYTHON"))}
        return subprocess.run(
            ["make", f"VENV={tmp_path / 'venv'}", *arguments, str(tmp_path / "venv" / goal)],
            cwd=ROOT,
            env={**environment, "PATH": str(tmp_path / "bin")},
            capture_output=True,
            text=True,
        )

    return run


def first_line(result):
    assert result.returncode == 2
    return result.stderr.splitlines()[0]


ALL = {"python3": "3.9", "python3.11": "3.11", "python3.12": "3.12", "python3.13": "3.13", "python3.14": "3.14"}


@pytest.mark.parametrize(
    ("pythons", "arguments", "taken"),
    [
        (ALL, [], "python3.14"),
        ({**ALL, "python3.14": "3.14*"}, [], "python3.13"),
        ({"python3": "3.12"}, [], "python3"),
        (ALL, ["PYTHON=python3.12"], "python3.12"),
        ({"python3.15": "3.15", "python3.11": "3.11"}, [], "python3.11"),
    ],
)
def test_the_newest_is_taken_or_the_one_asked_for(make, pythons, arguments, taken):
    result = make(pythons, *arguments)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0].startswith(f"{taken} -m venv ")


def test_another_than_the_environment_s_makes_it_anew(make, tmp_path):
    assert make(ALL, "PYTHON=python3.12").returncode == 0
    (tmp_path / "venv" / "kept").touch()
    for arguments in ([], ["PYTHON=python3.12"]):
        assert "is up to date" in make(ALL, *arguments).stdout
    assert (tmp_path / "venv" / "kept").exists()
    assert make(ALL, "PYTHON=python3.13").stdout.startswith("python3.13 -m venv")
    assert not (tmp_path / "venv" / "kept").exists()
    assert "is up to date" in make(ALL, "PYTHON=python3.13").stdout


def test_no_python_that_will_do_is_one_line(make):
    runs_on = ("3.14 3.13 3.12 3.11", "PYTHON=python3.13")
    assert_error_line(first_line(make({"python3": "3.9"})) + "\n", "python3 is Python 3.9", *runs_on)
    assert_error_line(first_line(make({})) + "\n", "python3", *runs_on)
    assert_error_line(first_line(make(ALL, "PYTHON=python4")) + "\n", "python4", *runs_on)
    assert_error_line(first_line(make({"python3": "3.13*"})) + "\n", "python3", "apt install python3-venv")
