"""The git repository of a submission, and the limits for its files."""

import subprocess
from pathlib import Path

from disentanglement_challenge.errors import SubmissionError
from disentanglement_challenge.submission.findings import Finding, failed, passed, warned

# A submission is code, and the evaluator has its own data. The largest file here, a picture, has 0.2 MB.
MAX_FILE_BYTES = 10_000_000
MAX_TOTAL_BYTES = 50_000_000
DATA_SUFFIXES = (".npz", ".npy", ".h5", ".hdf5", ".mat", ".tfrecord", ".tfrecords")

# The start of a Git LFS pointer, and an upper bound of its size in bytes (git-lfs, docs/spec.md).
_POINTER = b"version https://git-lfs.github.com/spec/"
_LONGEST_POINTER = 1024

_UNREADABLE = "fatal: Could not read from remote repository."


def git(root: Path, *arguments: str) -> str:
    """Run git in this folder and return its output; raise SubmissionError with git's message if it fails."""
    result = run_git(root, *arguments)
    if result.returncode != 0:
        raise SubmissionError(f"git {arguments[0]}: {complaint(result.stderr)}")
    return result.stdout


def run_git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git in this folder, whatever its exit code; raise SubmissionError if it is not installed."""
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise SubmissionError("git is not installed; a submission is a git push") from error


def complaint(stderr: str) -> str:
    """Return the line of git's messages that gives the reason."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    # The reason is the line of ssh or the server before this one.
    if _UNREADABLE in lines[1:]:
        return lines[lines.index(_UNREADABLE) - 1]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "! [", "remote: error"))]
    return (telling or lines or ["it failed without a message"])[0]


def server_said(stderr: str) -> str:
    """Return the output of the server's hooks in one line; AIcrowd's GitLab explains there why it rejects a push."""
    lines = [line.removeprefix("remote:").strip() for line in stderr.splitlines() if line.startswith("remote:")]
    return " ".join(line for line in lines if line.strip("=*- "))


def check_root(root: Path) -> None:
    """Raise SubmissionError if the folder is not the top of a git repository with a commit."""
    if Path(git(root, "rev-parse", "--show-toplevel").strip()).resolve() != root.resolve():
        raise SubmissionError(f"{root} is not the top of its git repository, where the evaluator looks for run.sh")
    git(root, "rev-parse", "--verify", "HEAD^{commit}")


def clone(root: Path, copy: Path) -> None:
    """Clone the last commit; raise SubmissionError if git fails."""
    git(root, "clone", "--quiet", "--no-local", "--depth", "1", str(root), str(copy))


def uncommitted(root: Path) -> list[str]:
    """Return the files that differ from HEAD, or are new and not ignored."""
    return [line[3:] for line in git(root, "status", "--porcelain").splitlines()]


def check_uncommitted(root: Path) -> Finding:
    """Warn of changes that would not be submitted."""
    files = uncommitted(root)
    if not files:
        return passed("everything is committed")
    return warned(f"{listed(files)} has uncommitted changes, which are neither checked nor submitted")


def check_files(copy: Path) -> Finding:
    """Check that the commit has no data sets and no large files."""
    sizes = {}
    for entry in git(copy, "ls-tree", "-r", "-l", "-z", "HEAD").split("\0")[:-1]:
        description, name = entry.split("\t", 1)
        size = description.split()[-1]
        sizes[name] = int(size) if size != "-" else 0  # a submodule has none
    problems = [
        f"{name} has {size / 1e6:.1f} MB; the limit is {MAX_FILE_BYTES / 1e6:.0f}"
        for name, size in sizes.items()
        if size > MAX_FILE_BYTES
    ]
    data = [name for name in sizes if name.lower().endswith(DATA_SUFFIXES)]
    if data:
        problems.append(f"{listed(data)} looks like a data set; the evaluator has its own data, so remove it")
    pointers = [name for name, size in sizes.items() if size < _LONGEST_POINTER and _is_pointer(copy, name)]
    if pointers:
        problems.append(f"{listed(pointers)} is a Git LFS pointer; commit the file itself")
    total = sum(sizes.values())
    if total > MAX_TOTAL_BYTES:
        problems.append(f"all files have {total / 1e6:.1f} MB; the limit is {MAX_TOTAL_BYTES / 1e6:.0f}")
    if problems:
        return failed("; ".join(problems))
    largest = max(sizes, key=lambda name: sizes[name])
    return passed(f"{len(sizes)} files, {total / 1e6:.1f} MB, the largest {largest} with {sizes[largest] / 1e6:.1f} MB")


def _is_pointer(copy: Path, name: str) -> bool:
    # Read the commit: with Git LFS installed, a clone holds the file itself.
    shown = subprocess.run(["git", "cat-file", "blob", f"HEAD:{name}"], cwd=copy, capture_output=True, check=False)
    return shown.stdout.startswith(_POINTER)


def listed(names: list[str]) -> str:
    """Return the first few of these names, and the number of the others."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
