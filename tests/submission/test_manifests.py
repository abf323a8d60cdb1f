import json
import os
import re
import subprocess
import zipfile

import pytest
import yaml
from conftest import ROOT
from messages import facts
from packaging.requirements import Requirement
from repositories import commit, git, make_repository

from disentanglement_challenge.errors import SubmissionError
from disentanglement_challenge.submission import manifests
from disentanglement_challenge.submission.findings import CROSS, TICK, WARNING
from disentanglement_challenge.submission.manifests import (
    CHALLENGE,
    STATIC_CHECKS,
    check_aicrowd_json,
    check_apt_txt,
    check_environment,
    check_resolution,
    check_run_sh,
)
from disentanglement_challenge.submission.repository import check_files, check_root, check_uncommitted

ON_THE_EVALUATOR = {
    "python_version": "3.11", "python_full_version": "3.11.9", "sys_platform": "linux", "platform_machine": "x86_64",
}  # fmt: skip


def pins(lines):
    requirements = [Requirement(line.split("#")[0]) for line in lines if "==" in line.split("#")[0]]
    wanted = [each for each in requirements if each.marker is None or each.marker.evaluate(ON_THE_EVALUATOR)]
    return {f"{each.name}{each.specifier}" for each in wanted}


def test_environment_yml_has_the_pins_of_requirements_txt():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    packages = environment["dependencies"]
    assert "python=3.11" in packages
    assert "pip" in packages
    assert pins(packages[-1]["pip"]) == pins((ROOT / "requirements.txt").read_text().splitlines())


def test_every_requirement_is_pinned_and_has_a_reason():
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-aicrowd-cli.txt"):
        for line in (ROOT / name).read_text().splitlines():
            if line and not line.startswith(("#", "-r")):
                assert re.fullmatch(r"[\w.-]+==[\w.]+(; [^#]+?)? +# .{5,}", line), line


def test_what_shares_its_files_with_aicrowd_api_is_never_installed_beside_it():
    both = [(ROOT / name).read_text() for name in ("requirements.txt", "requirements-aicrowd-cli.txt")]
    assert [re.findall(r"^aicrowd-\w+(?===)", text, re.MULTILINE) for text in both] == [
        ["aicrowd-api"],
        ["aicrowd-cli"],
    ]


def test_the_project_s_own_files_pass():
    marks = {name: check(ROOT).mark for name, check in STATIC_CHECKS.items()}
    assert marks.pop("aicrowd.json") == WARNING  # its author is a placeholder
    assert set(marks.values()) == {TICK}


GOOD = {"challenge_id": CHALLENGE, "grader_id": CHALLENGE, "authors": ["somebody"], "gpu": True}


@pytest.mark.parametrize(
    ("content", "mark", "said"),
    [
        (json.dumps(GOOD), TICK, ["authors somebody", "a GPU"]),
        (json.dumps({**GOOD, "authors": ["your-aicrowd-username"]}), WARNING, ["authors", '"your-aicrowd-username"']),
        ('{\n  "challenge_id": "x",\n}', CROSS, ["line ", "JSON"]),
        ("[]", CROSS, ["[]", "object"]),
        ("{}", CROSS, [f"{key} is missing" for key in GOOD]),
        (json.dumps({**GOOD, "grader_id": "another"}), CROSS, ["grader_id", '"another"', f'"{CHALLENGE}"']),
        (json.dumps({**GOOD, "challenge_id": 3}), CROSS, ["challenge_id is 3", f'"{CHALLENGE}"']),
        (json.dumps({**GOOD, "authors": "somebody"}), CROSS, ["authors", '"somebody"', "list"]),
        (json.dumps({**GOOD, "authors": []}), CROSS, ["authors", "[]", "list"]),
        (json.dumps({**GOOD, "authors": ["somebody", 3]}), CROSS, ["authors", '["somebody", 3]']),
        (json.dumps({**GOOD, "gpu": "true"}), CROSS, ["gpu", '"true"', "true or false"]),
        (json.dumps({**GOOD, "license": 1}), CROSS, ["license is 1", "text"]),
    ],
)
def test_aicrowd_json(tmp_path, content, mark, said):
    (tmp_path / "aicrowd.json").write_text(content)
    finding = check_aicrowd_json(tmp_path)
    assert finding.mark == mark
    assert re.match(facts(*said), finding.reason), finding.reason
    wrong = [key for key in (*GOOD, "license") if re.search(rf"\b{key} is\b", finding.reason)]
    assert len(wrong) <= 1 or content == "{}"


ENVIRONMENT = (ROOT / "environment.yml").read_text()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            ENVIRONMENT.replace("numpy==2.4.6", "numpy==2.4.5"),
            ["numpy is 2.4.5", "requirements.txt", "2.4.6"],
        ),
        (
            ENVIRONMENT.replace("      - numpy==2.4.6\n", ""),
            ["numpy is missing", "requirements.txt", "2.4.6"],
        ),
        (ENVIRONMENT + "      - pooch==1.0\n", ["pooch is 1.0", "requirements.txt", "missing"]),
        (ENVIRONMENT.replace("python=3.11", "python=3.10"), ["python is 3.10", "python=3.11"]),
        (ENVIRONMENT.replace("  - python=3.11\n", ""), ["python is missing", "python=3.11"]),
        (ENVIRONMENT.replace("  - pip\n", "  - pip\n  - opencv=4.0\n"), ["conda", "opencv=4.0", "pip:"]),
        (
            ENVIRONMENT.replace("numpy==2.4.6", "numpy>=2"),
            ["environment.yml", "'numpy>=2'", "name==version"],
        ),
        (ENVIRONMENT.replace("dependencies:", "dependencies: ]"), ["line ", "YAML"]),
        ("name: x", ["dependencies is missing", "list"]),
        ("- x", ["dependencies is missing", "list"]),
        ("dependencies:\n  - python=3.11\n  - 3", ["dependency 3"]),
    ],
)
def test_environment_yml(tmp_path, content, said):
    (tmp_path / "environment.yml").write_text(content)
    (tmp_path / "requirements.txt").write_text((ROOT / "requirements.txt").read_text())
    assert content != ENVIRONMENT
    try:
        finding = check_environment(tmp_path)
        assert finding.mark == CROSS
        message = finding.reason
    except SubmissionError as error:
        message = str(error)
    assert re.match(facts(*said), message), message
    # One mistake, one complaint: packages that are right are not named.
    assert "torch" not in message


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('pooch==1.0; python_version < "3.12"', ["pooch is missing", "requirements.txt", "1.0"]),
        ('pooch==1.0; python_version >= "3.12"', []),
        ('pooch==1.0; platform_machine == "aarch64"', []),
        ("pooch==1.0; python > 3", ["requirements.txt", "marker", "'python > 3'"]),
    ],
)
def test_markers_are_judged_for_the_evaluator(tmp_path, line, said):
    (tmp_path / "environment.yml").write_text(ENVIRONMENT)
    (tmp_path / "requirements.txt").write_text((ROOT / "requirements.txt").read_text() + f"{line}  # why\n")
    if "marker" in said:
        with pytest.raises(SubmissionError, match=facts(*said)):
            check_environment(tmp_path)
        return
    finding = check_environment(tmp_path)
    assert finding.mark == (CROSS if said else TICK)
    assert re.match(facts(*said), finding.reason)


def test_spelling_of_names_is_no_difference(tmp_path):
    (tmp_path / "environment.yml").write_text(
        ENVIRONMENT.replace("PyYAML", "pyyaml").replace("gin-config", "gin_config")
    )
    (tmp_path / "requirements.txt").write_text((ROOT / "requirements.txt").read_text())
    assert check_environment(tmp_path).mark == TICK


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """Make a folder of packages for pip: `apple` 1 needs `pear` 2 or newer; there are two versions of `pear`."""
    folder = tmp_path_factory.mktemp("wheels")
    for name, version, needed in (("apple", "1", "pear>=2"), ("pear", "1", None), ("pear", "2", None)):
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        metadata += f"Requires-Dist: {needed}\n" if needed else ""
        wheel = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
            archive.writestr(f"{name}-{version}.dist-info/METADATA", metadata)
            archive.writestr(f"{name}-{version}.dist-info/WHEEL", wheel)
            archive.writestr(f"{name}-{version}.dist-info/RECORD", "")
    return folder


@pytest.mark.parametrize(
    ("packages", "mark", "reason"),
    [
        (["apple==1", "pear==2"], TICK, r"\b2 .*packages"),
        (["apple==1", "pear==1"], CROSS, "^Cannot install apple==1 and pear==1 .*conflicting dependencies"),
        (["apple==7"], CROSS, "^No matching distribution found for apple==7"),
    ],
)
def test_resolution(tmp_path, monkeypatch, wheels, packages, mark, reason):
    monkeypatch.setattr(manifests, "_HERE", "3.11")  # the packages support any Python
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    (tmp_path / "environment.yml").write_text(yaml.dump({"dependencies": ["python=3.11", {"pip": packages}]}))
    finding = check_resolution(tmp_path)
    assert finding.mark == mark
    assert re.search(reason, finding.reason)


def test_what_resolves_for_the_evaluator_s_python_is_not_known_to_another(tmp_path, monkeypatch):
    monkeypatch.setattr(manifests, "_HERE", "3.14")
    (tmp_path / "environment.yml").write_text(ENVIRONMENT)
    finding = check_resolution(tmp_path)
    assert finding.mark == WARNING
    assert re.match(facts("unknown", "3.14", "3.11"), finding.reason)


def test_without_a_network_what_resolves_is_not_known(tmp_path, monkeypatch):
    monkeypatch.setattr(manifests, "_HERE", "3.11")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    (tmp_path / "environment.yml").write_text(yaml.dump({"dependencies": [{"pip": ["apple==1"]}]}))
    finding = check_resolution(tmp_path)
    assert finding.mark == CROSS
    assert re.match(facts("unknown", "pip", "package index"), finding.reason)


@pytest.mark.parametrize(
    ("content", "mark", "reason"),
    [
        ("", TICK, "no packages"),
        ("# why\nlibgl1  # pictures\n\ng++\n", TICK, r"^libgl1, g\+\+$"),
        ("libgl1\nlibGL\n", CROSS, "^line 2 is 'libGL'"),
        ("libgl1 ffmpeg\n", CROSS, "^line 1 is 'libgl1 ffmpeg'"),
        ("x; rm -rf /\n", CROSS, "^line 1"),
        ("a\n", CROSS, "^line 1 is 'a'"),
    ],
)
def test_apt_txt(tmp_path, content, mark, reason):
    (tmp_path / "apt.txt").write_text(content)
    finding = check_apt_txt(tmp_path)
    assert finding.mark == mark
    assert re.search(reason, finding.reason)


def test_a_missing_file_is_named(tmp_path):
    for check in (check_aicrowd_json, check_environment, check_apt_txt, check_run_sh):
        with pytest.raises(SubmissionError, match=r"(aicrowd\.json|environment\.yml|apt\.txt|run\.sh) .*committed"):
            check(tmp_path)


def test_run_sh_must_be_a_script_that_can_be_executed(tmp_path):
    repository = make_repository(tmp_path)
    assert check_run_sh(repository).mark == TICK
    script = repository / "run.sh"
    text = script.read_text()
    for content, reason in (
        (text.removeprefix("#!"), facts("first line", "interpreter", "#!/usr/bin/env bash")),
        (text + "if true; then\n", r"run\.sh: line \d+: syntax error"),
    ):
        script.write_text(content)
        commit(repository)
        finding = check_run_sh(repository)
        assert finding.mark == CROSS
        assert re.match(reason, finding.reason)
    script.write_text(text)
    script.chmod(0o644)
    commit(repository)
    finding = check_run_sh(repository)
    assert finding.mark == CROSS
    assert re.match(facts("not executable", 100644, "git update-index --chmod=+x run.sh"), finding.reason)


def test_large_files_and_data_sets_are_named(tmp_path):
    repository = make_repository(tmp_path)
    assert re.match(facts("5 files", "0.0 MB", "requirements.txt"), check_files(repository).reason)
    with (repository / "weights.bin").open("wb") as file:
        file.truncate(50_000_000)
    (repository / "scratch").mkdir()
    (repository / "scratch" / "cars.MAT").write_bytes(b"x")
    assert check_files(repository).mark == TICK  # they are not committed
    commit(repository)
    finding = check_files(repository)
    assert finding.mark == CROSS
    assert re.match(facts("weights.bin has 50.0 MB", 10), finding.reason)
    assert re.match(facts("scratch/cars.MAT", "data set"), finding.reason)
    assert re.match(facts("all files have 50.0 MB", 50), finding.reason)
    assert "requirements.txt" not in finding.reason


def test_a_git_lfs_pointer_is_no_file(tmp_path):
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"
    repository = make_repository(tmp_path, **{"weights.bin": pointer, "about.txt": f"A pointer is such as\n{pointer}"})
    finding = check_files(repository)
    assert finding.mark == CROSS
    assert re.match(facts("weights.bin", "Git LFS"), finding.reason)
    assert "about.txt" not in finding.reason


def test_what_is_not_committed_is_a_warning(tmp_path):
    repository = make_repository(tmp_path)
    assert check_uncommitted(repository).mark == TICK
    (repository / "run.sh").unlink()
    (repository / "new.py").write_text("")
    finding = check_uncommitted(repository)
    assert finding.mark == WARNING
    assert finding.reason.startswith("run.sh, new.py ")


def test_a_folder_that_is_no_repository(tmp_path):
    with pytest.raises(SubmissionError, match="not a git repository"):  # git's own words
        check_root(tmp_path)
    git(tmp_path, "init", "--quiet")
    with pytest.raises(SubmissionError, match="git rev-parse"):
        check_root(tmp_path)
    make_repository(tmp_path)
    check_root(tmp_path)
    (tmp_path / "within").mkdir()
    with pytest.raises(SubmissionError, match=facts(tmp_path / "within", "top")):
        check_root(tmp_path / "within")


def run_sh(tmp_path, *arguments, **environment):
    """Run run.sh with a `python` that prints its environment and arguments."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$AICROWD_DATASET_NAME|$NDC_ROOT|$@"\n')
    python.chmod(0o755)
    result = subprocess.run(
        [ROOT / "run.sh", *arguments],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.strip().split("|")


@pytest.mark.parametrize("environment", [{}, {"AICROWD_IS_GRADING": ""}])
def test_run_sh_sources_a_local_environment_off_the_evaluator(tmp_path, environment):
    dataset, root, arguments = run_sh(tmp_path, **environment)
    assert dataset == "mpi3d_embedded"
    assert root == str(ROOT)
    assert arguments == f"{ROOT}/train_pytorch.py --gin_config {ROOT}/gin/stage1.gin"


def test_run_sh_sources_none_on_the_evaluator(tmp_path):
    dataset, _, arguments = run_sh(tmp_path, AICROWD_IS_GRADING="True")
    assert dataset == ""
    assert arguments == f"{ROOT}/train_pytorch.py --overwrite --resume --gin_config {ROOT}/gin/stage1.gin"
    assert run_sh(tmp_path, AICROWD_IS_GRADING="True", AICROWD_DATASET_NAME="mpi3d_real")[0] == "mpi3d_real"


def test_run_sh_passes_flags_on_and_keeps_its_gin_file_unless_another_is_given(tmp_path):
    _, _, arguments = run_sh(tmp_path, "--gin_bindings", "a.b = 'c d'")
    assert arguments == f"{ROOT}/train_pytorch.py --gin_config {ROOT}/gin/stage1.gin --gin_bindings a.b = 'c d'"
    for flags in (["--gin_config", "x.gin"], ["--debug", "--gin_config=x.gin"]):
        assert run_sh(tmp_path, *flags)[2] == f"{ROOT}/train_pytorch.py {' '.join(flags)}"
