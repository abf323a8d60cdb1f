"""The content of an installation, its command, and the error for a missing extra."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile

import pytest
from conftest import ROOT
from messages import assert_error_line, facts
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from disentanglement_challenge import commands
from disentanglement_challenge.environment import GIN_FOLDER, IS_TREE
from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.extras import PACKAGES, require_extra

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements(lines):
    lines = [line.split("#")[0].strip() for line in lines]
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


def names(lines):
    return {canonicalize_name(each.name) for each in requirements(lines)}


def pinned(file):
    return (ROOT / file).read_text().splitlines()


def test_the_project_and_its_extras_are_the_packages_of_requirements_txt():
    extras = PROJECT["optional-dependencies"]
    installed = [*PROJECT["dependencies"], *extras["tensorflow"], *extras["onnx"], *extras["sweep"]]
    assert names(installed) == names(pinned("requirements.txt"))
    # With different markers, a pin might not be installed, or not be resolved, on some platform.
    markers = {(each.name, str(each.marker)) for each in requirements(pinned("requirements.txt"))}
    for each in requirements(installed):
        pins = [pin for pin in requirements(pinned("requirements.txt")) if pin.name.lower() == each.name.lower()]
        for pin in pins:
            assert each.specifier.contains(str(pin.specifier).removeprefix("==")), (str(each), str(pin))
        assert not each.marker or (each.name, str(each.marker)) in markers


def test_the_extra_for_developers_is_requirements_dev_txt():
    own, *others = PROJECT["optional-dependencies"]["dev"]
    assert own == "disentanglement-challenge[onnx,sweep,tensorflow]"
    assert sorted(map(str, requirements(others))) == sorted(map(str, requirements(pinned("requirements-dev.txt"))))


@pytest.mark.parametrize("extra", ["hub", "mlflow", "wandb"])
def test_other_extras_hold_what_the_tests_run_with(extra):
    pins = {canonicalize_name(pin.name): pin for pin in requirements(pinned("requirements-dev.txt"))}
    for each in requirements(PROJECT["optional-dependencies"][extra]):
        pin = pins[canonicalize_name(each.name)]
        assert each.specifier.contains(str(pin.specifier).removeprefix("==")), (str(each), str(pin))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", folder, ROOT], check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Return a folder with the content of the wheel, and nothing else of the project."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(installed, *arguments, code="from disentanglement_challenge.commands import main; main()", **environment):
    folder = installed.parent / "elsewhere"
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1", **environment},
        capture_output=True,
        text=True,
    )


def test_a_wheel_has_the_gin_files_in_the_package_and_nothing_beside_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        files = set(archive.namelist())
    assert {name.partition("/")[0] for name in files} == {
        "disentanglement_challenge",
        f"disentanglement_challenge-{PROJECT['version']}.dist-info",
    }
    ours = {
        f"disentanglement_challenge/gin_files/{path.relative_to(ROOT / 'gin')}" for path in ROOT.glob("gin/**/*.gin")
    }
    assert ours
    assert ours <= files
    for path in (ROOT / "disentanglement_challenge").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert str(path.relative_to(ROOT)) in files


def test_an_installation_finds_its_gin_files(installed):
    code = """
import sys
from disentanglement_challenge import config, environment
assert not environment.IS_TREE and str(environment.GIN_FOLDER) == sys.argv[1] + "/disentanglement_challenge/gin_files"
import disentanglement_challenge.training.run
with config.gin_configuration(["stage1.gin"]):
    assert config.bound_value("dataset.name") == "auto"
"""
    result = run(installed, installed, code=code)
    assert (result.stderr, result.returncode) == ("", 0)
    assert IS_TREE
    assert ROOT / "gin" == GIN_FOLDER


@pytest.mark.processes
def test_the_command_of_an_installation(installed, tmp_path, embedded_data_path):
    """The command also runs training, which is a script of the tree."""
    environment = {"DISENTANGLEMENT_LIB_DATA": str(embedded_data_path), "AICROWD_OUTPUT_PATH": str(tmp_path)}
    listed = run(installed, "data", "list", **environment)
    assert listed.returncode == 0, listed.stderr
    assert "mpi3d_embedded" in listed.stdout
    small = ["--gin_bindings", "model.training_steps = 1", "--gin_bindings", "model.batch_size = 2"]
    trained = run(installed, "train", "--experiment", "tiny", *small, **environment)
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / "tiny" / "representation" / "pytorch_model.pt").is_file()
    refused = run(installed, "train", "--gin_config", "nothing.gin", **environment)
    assert refused.returncode == 1
    assert re.search(r"^error: .*'nothing\.gin'", refused.stderr, re.MULTILINE)


def test_the_command_s_words(capsys):
    commands.main(["--help"])
    shown = capsys.readouterr().out
    for name in ("run", "train", "score", "sweep", "data", "hub", "page", "submission"):
        assert re.search(rf"^ +{name} ", shown, re.MULTILINE)
    commands.main([])
    assert capsys.readouterr().out == shown
    with pytest.raises(SystemExit, match="2"):
        commands.main(["tarin"])
    assert_error_line(capsys.readouterr().err, "'tarin'", "did you mean 'train'?")
    with pytest.raises(SystemExit, match="2"):
        commands.main(["xyz"])
    assert_error_line(capsys.readouterr().err, "'xyz'", "run, train, score")


MISSING = """
import sys
names = sys.argv.pop(1).split()
class Without:
    def __init__(self, finder): self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in names else self.finder.find_spec(name, path, target)
    def __getattr__(self, name): return getattr(self.finder, name)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
from disentanglement_challenge.commands import main
main()
"""


@pytest.mark.processes
@pytest.mark.parametrize(
    ("packages", "arguments", "said"),
    [
        ("ray", ["sweep", "table1"], ["sweep", "ray", "extra 'sweep'", "pip install '.[sweep]'"]),
        (
            "onnx onnxruntime onnxscript",
            ["train", "--experiment", "x", "--gin_bindings", "export.formats = ['onnx']"],
            ["ONNX", "onnx, onnxruntime, onnxscript", "extra 'onnx'", "pip install '.[onnx]'"],
        ),
        (
            "wandb",
            ["train", "--experiment", "x", "--gin_bindings", "trackers.use = ['wandb']"],
            ["trackers.use = ['wandb'] needs wandb", "extra 'wandb'", "pip install '.[wandb]'"],
        ),
        (
            "mlflow",
            ["train", "--experiment", "x", "--gin_bindings", "trackers.use = ['mlflow']"],
            ["trackers.use = ['mlflow'] needs mlflow", "extra 'mlflow'", "pip install '.[mlflow]'"],
        ),
        (
            "huggingface_hub",
            ["hub", "push", "x", "me/x"],
            ["a model on the hub needs huggingface_hub", "extra 'hub'", "pip install '.[hub]'"],
        ),
        (
            "huggingface_hub",
            ["score", "hf://me/x", "--dataset", "mpi3d_embedded", "--metrics", "mig"],
            ["a model on the hub needs huggingface_hub", "extra 'hub'", "pip install '.[hub]'"],
        ),
    ],
)
def test_a_missing_extra_is_one_line_before_anything_is_done(tmp_path, packages, arguments, said):
    result = subprocess.run(
        [sys.executable, "-c", MISSING, packages, *arguments],
        cwd=ROOT,
        env={**os.environ, "AICROWD_OUTPUT_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert_error_line(result.stderr, *said)
    assert not list(tmp_path.rglob("*.pt"))


def test_what_is_installed_is_not_missing():
    for extra in PACKAGES:
        require_extra(extra, "a test")
    with (
        pytest.MonkeyPatch.context() as context,
        pytest.raises(ConfigError, match=facts("a test", "no_such_package", "'sweep'")),
    ):
        context.setitem(PACKAGES, "sweep", ("ray", "no_such_package"))
        require_extra("sweep", "a test")
