"""The git repository that a submission is made of, and what may be in it."""

import subprocess
from pathlib import Path

from disentanglement_challenge.errors import SubmissionError
from disentanglement_challenge.submission.findings import Finding, failed, passed, warned

# A submission is code; the largest file here, a picture for the README, has 0.2 MB. The evaluator brings its data.
MAX_FILE_BYTES = 10_000_000
MAX_TOTAL_BYTES = 50_000_000
DATA_SUFFIXES = (".npz", ".npy", ".h5", ".hdf5", ".mat", ".tfrecord", ".tfrecords")

# How a Git LFS pointer starts, and more than it has bytes (git-lfs, docs/spec.md).
_POINTER = b"version https://git-lfs.github.com/spec/"
_LONGEST_POINTER = 1024

_UNREADABLE = "fatal: Could not read from remote repository."


def git(root: Path, *arguments: str) -> str:
    """What git prints, run in this folder. Raises SubmissionError with git's complaint where it fails."""
    try:
        result = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise SubmissionError("git is not installed, and a submission is a push of it") from error
    if result.returncode != 0:
        raise SubmissionError(f"git {arguments[0]}: {complaint(result.stderr)}")
    return result.stdout


def complaint(stderr: str) -> str:
    """The line of git's messages that says what is wrong."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    # What ssh or the server said before this line is why.
    if _UNREADABLE in lines[1:]:
        return lines[lines.index(_UNREADABLE) - 1]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "! [", "remote: error"))]
    return (telling or lines or ["it failed and did not say why"])[0]


def server_said(stderr: str) -> str:
    """What the server's hooks printed, in one line: AIcrowd's GitLab explains there why it takes no push."""
    lines = [line.removeprefix("remote:").strip() for line in stderr.splitlines() if line.startswith("remote:")]
    return " ".join(line for line in lines if line.strip("=*- "))


def check_root(root: Path) -> None:
    """Raises SubmissionError where the folder is not the top of a git repository with a commit."""
    if Path(git(root, "rev-parse", "--show-toplevel").strip()).resolve() != root.resolve():
        raise SubmissionError(f"{root} is not the top of its git repository; the evaluator looks for run.sh there")
    git(root, "rev-parse", "--verify", "HEAD^{commit}")


def clone(root: Path, copy: Path) -> None:
    """Makes a copy of what is committed; raises SubmissionError where git cannot."""
    git(root, "clone", "--quiet", "--no-local", "--depth", "1", str(root), str(copy))


def uncommitted(root: Path) -> list[str]:
    """Files that differ from HEAD or are new and not ignored."""
    return [line[3:] for line in git(root, "status", "--porcelain").splitlines()]


def check_uncommitted(root: Path) -> Finding:
    """Warns of what would not be submitted."""
    files = uncommitted(root)
    if not files:
        return passed("everything is committed")
    return warned(f"{listed(files)} changed and not committed; only what is committed was checked, and is submitted")


def check_files(copy: Path) -> Finding:
    """No data sets, nothing large."""
    sizes = {}
    for entry in git(copy, "ls-tree", "-r", "-l", "-z", "HEAD").split("\0")[:-1]:
        description, name = entry.split("\t", 1)
        size = description.split()[-1]
        sizes[name] = int(size) if size != "-" else 0  # a submodule has none
    problems = [
        f"{name} has {size / 1e6:.1f} MB, and the limit is {MAX_FILE_BYTES / 1e6:.0f}"
        for name, size in sizes.items()
        if size > MAX_FILE_BYTES
    ]
    data = [name for name in sizes if name.lower().endswith(DATA_SUFFIXES)]
    if data:
        problems.append(f"{listed(data)} looks like a data set, which the evaluator brings itself")
    pointers = [name for name, size in sizes.items() if size < _LONGEST_POINTER and _is_pointer(copy, name)]
    if pointers:
        problems.append(f"{listed(pointers)} is a Git LFS pointer, not the file; commit the file itself")
    total = sum(sizes.values())
    if total > MAX_TOTAL_BYTES:
        problems.append(f"all files have {total / 1e6:.1f} MB, and the limit is {MAX_TOTAL_BYTES / 1e6:.0f}")
    if problems:
        return failed("; ".join(problems))
    largest = max(sizes, key=lambda name: sizes[name])
    return passed(f"{len(sizes)} files, {total / 1e6:.1f} MB, the largest {largest} with {sizes[largest] / 1e6:.1f} MB")


def _is_pointer(copy: Path, name: str) -> bool:
    # As it is committed: with Git LFS installed a clone holds the file itself.
    shown = subprocess.run(["git", "cat-file", "blob", f"HEAD:{name}"], cwd=copy, capture_output=True, check=False)
    return shown.stdout.startswith(_POINTER)


def listed(names: list[str]) -> str:
    """The first few of these names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
