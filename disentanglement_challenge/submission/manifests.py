"""The files that the evaluator reads before it runs anything: aicrowd.json, environment.yml, apt.txt, run.sh."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from packaging.markers import InvalidMarker, Marker, default_environment

from disentanglement_challenge.errors import SubmissionError, lines_of
from disentanglement_challenge.submission.findings import Finding, failed, passed, warned
from disentanglement_challenge.submission.repository import check_files, git, listed

CHALLENGE = "aicrowd-neurips-2019-disentanglement-challenge"
PLACEHOLDER = "your-aicrowd-username"

# The evaluator's Python and machine, which may differ from the local ones.
_PYTHON = "3.11"
_EVALUATOR = {
    **{name: str(value) for name, value in default_environment().items()},
    "python_version": _PYTHON, "python_full_version": f"{_PYTHON}.0", "sys_platform": "linux",
    "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix",
}  # fmt: skip
_HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
_PIN = re.compile(r"([A-Za-z0-9][\w.-]*(?:\[[\w.,-]+\])?)\s*==\s*([\w.+!]+)")
# Debian Policy, 5.6.1.
_DEBIAN_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_NO_NETWORK = re.compile(
    r"Retrying \(Retry\(|Failed to establish a new connection|Temporary failure in name resolution"
)


def check_aicrowd_json(copy: Path) -> Finding:
    """Check the keys that map a submission to the challenge; warn of the authors' placeholder, which push refuses."""
    try:
        content = json.loads(_read(copy / "aicrowd.json"))
    except json.JSONDecodeError as error:
        return failed(f"line {error.lineno} is not JSON: {error.msg}")
    if not isinstance(content, dict):
        return failed(f"it is {_spelled(content)}; it must be an object with challenge_id, grader_id, authors, gpu")
    problems = []
    for key in ("challenge_id", "grader_id"):
        if content.get(key) != CHALLENGE:
            problems.append(f'{key} is {_spelled(content.get(key))}; it must be "{CHALLENGE}"')
    authors = content.get("authors")
    if not isinstance(authors, list) or not authors or not all(isinstance(name, str) and name for name in authors):
        problems.append(f'authors is {_spelled(authors)}; it must list user names, such as ["{PLACEHOLDER}"]')
    if not isinstance(content.get("gpu"), bool):
        problems.append(f"gpu is {_spelled(content.get('gpu'))}; it must be true or false")
    for key in ("description", "license"):
        if not isinstance(content.get(key, ""), str):
            problems.append(f"{key} is {_spelled(content[key])}; it must be text")
    if problems:
        return failed("; ".join(problems))
    if PLACEHOLDER in content["authors"]:
        return warned(f'authors is still "{PLACEHOLDER}"; replace it by your AIcrowd user name before you submit')
    return passed(f"authors {', '.join(content['authors'])}, {'a' if content['gpu'] else 'no'} GPU")


def check_environment(copy: Path) -> Finding:
    """Check that environment.yml has the evaluator's Python, and the pins of requirements.txt for it."""
    conda, pip = _dependencies(copy)
    problems = []
    pythons = [re.sub(r"^python[\s=]*", "", entry) for entry in conda if re.match(r"python\b(?!-)", entry)]
    if [".".join(version.split(".")[:2]) for version in pythons] != [_PYTHON]:
        there = ", ".join(pythons) or "missing"
        problems.append(f"python is {there}; the evaluator needs {_PYTHON}, write python={_PYTHON}")
    others = [entry for entry in conda if not re.match(r"(python|pip)\b(?!-)", entry)]
    if others:
        problems.append(
            f"conda would install {listed(others)}; all packages but python and pip must be in the pip: list"
        )
    required = _pins(_read(copy / "requirements.txt").splitlines(), "requirements.txt")
    installed = _pins(pip, "environment.yml")
    for name in sorted(required.keys() | installed.keys()):
        if required.get(name) != installed.get(name):
            theirs, ours = (versions.get(name, "missing") for versions in (installed, required))
            problems.append(f"{name} is {theirs}; in requirements.txt it is {ours}")
    if problems:
        return failed("; ".join(problems))
    return passed(f"Python {_PYTHON} and {len(installed)} pins, equal to those of requirements.txt")


def check_resolution(copy: Path) -> Finding:
    """Check that pip can resolve environment.yml's pins and their dependencies; conda's packages are not checked."""
    _, pip = _dependencies(copy)
    if _HERE != _PYTHON:
        return warned(f"unknown, as pip resolves for its own Python, {_HERE}; run the check with Python {_PYTHON}")
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    command += [
        "--disable-pip-version-check",
        "--root-user-action",
        "ignore",
        "--retries",
        "1",
        "--timeout",
        "15",
        *pip,
    ]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if result.returncode == 0:
        return passed(f"pip finds {len(json.loads(result.stdout)['install'])} compatible packages for Python {_PYTHON}")
    if _NO_NETWORK.search(result.stderr):
        return failed("unknown, as pip cannot reach a package index; connect to the network and check again")
    errors = [line.removeprefix("ERROR: ") for line in result.stderr.splitlines() if line.startswith("ERROR: ")]
    # Other lines list the versions that pip has tried.
    telling = [line for line in errors if line.startswith(("Cannot install", "No matching distribution"))]
    return failed((telling or errors or result.stderr.splitlines() or ["pip failed"])[0], result.stderr)


def check_apt_txt(copy: Path) -> Finding:
    """Check that each line names one Debian package; comments start with #."""
    names = []
    for number, line in enumerate(_read(copy / "apt.txt").splitlines(), start=1):
        name = line.partition("#")[0].strip()
        if name and not _DEBIAN_NAME.fullmatch(name):
            return failed(f"line {number} is {name!r}; it must be one Debian package name, such as libgl1")
        names += [name] if name else []
    return passed(listed(names) if names else "no packages")


def check_run_sh(copy: Path) -> Finding:
    """Check that the evaluator's entry point is executable, and a shell script without syntax errors."""
    text = _read(copy / "run.sh")
    mode = git(copy, "ls-tree", "HEAD", "run.sh").split()[0]
    if mode != "100755" or not os.access(copy / "run.sh", os.X_OK):
        return failed(f"it is not executable (mode {mode} in git); run git update-index --chmod=+x run.sh and commit")
    if not text.startswith("#!"):
        return failed("its first line does not name an interpreter; it must be like #!/usr/bin/env bash")
    syntax = subprocess.run(["bash", "-n", "run.sh"], cwd=copy, capture_output=True, text=True, check=False)
    if syntax.returncode != 0:
        return failed(syntax.stderr.splitlines()[0])
    return passed("executable")


# Checks of a repository's files that run none of them and need no network.
STATIC_CHECKS: dict[str, Callable[[Path], Finding]] = {
    "aicrowd.json": check_aicrowd_json,
    "environment.yml": check_environment,
    "apt.txt": check_apt_txt,
    "run.sh": check_run_sh,
    "files": check_files,
}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SubmissionError(f"{path.name} is not committed; the evaluator needs it") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SubmissionError(f"cannot read {path.name}: {error}") from error


def _dependencies(copy: Path) -> tuple[list[str], list[str]]:
    """Return environment.yml's packages for conda, and those for pip."""
    try:
        content = yaml.safe_load(_read(copy / "environment.yml"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else "it"
        raise SubmissionError(f"{where} is not YAML: {getattr(error, 'problem', None) or error}") from error
    entries = content.get("dependencies") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise SubmissionError(f"dependencies is {_spelled(entries)}; it must be a list of packages")
    conda: list[str] = [entry for entry in entries if isinstance(entry, str)]
    pip: list[str] = []
    for entry in entries:
        if isinstance(entry, dict) and isinstance(entry.get("pip"), list) and entry.keys() == {"pip"}:
            pip += map(str, entry["pip"])
        elif not isinstance(entry, str):
            raise SubmissionError(f"the dependency {_spelled(entry)} is neither a package nor a pip: list")
    return conda, pip


def _pins(lines: list[str], file: str) -> dict[str, str]:
    """Return pinned versions by normalised name (PEP 503), for the evaluator's Python and machine."""
    pins = {}
    for line in lines:
        requirement = re.sub(r"(^|\s)#.*", "", line).strip()
        if not requirement:
            continue
        requirement, _, marker = (part.strip() for part in requirement.partition(";"))
        match = _PIN.fullmatch(requirement)
        if not match:
            raise SubmissionError(f"{file} has {requirement!r}; it must be name==version")
        try:
            if marker and not Marker(marker).evaluate(_EVALUATOR):
                continue
        except InvalidMarker as error:
            raise SubmissionError(f"{file} has the invalid marker {marker!r}: {lines_of(error)[0]}") from error
        pins[re.sub(r"[-_.]+", "-", match.group(1)).lower()] = match.group(2)
    return pins


def _spelled(value: Any) -> str:
    return "missing" if value is None else json.dumps(value, default=str)
