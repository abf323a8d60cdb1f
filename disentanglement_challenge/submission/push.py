"""Submit: push a tag whose name begins with "submission-" to the challenge's GitLab."""

import re
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from disentanglement_challenge.errors import SubmissionError
from disentanglement_challenge.submission.findings import TICK
from disentanglement_challenge.submission.manifests import STATIC_CHECKS
from disentanglement_challenge.submission.repository import (
    check_root,
    clone,
    complaint,
    git,
    listed,
    run_git,
    server_said,
    uncommitted,
)

PREFIX = "submission-"
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z._+-]*")


def push(root: Path, version: str, remote: str = "aicrowd") -> str:
    """Tag HEAD as submission-VERSION, push its branch and the tag, and return where to see the result.

    The push is atomic. If it fails, the local tag is removed.

    Raises:
        SubmissionError: there are uncommitted changes; the tag exists locally or at the remote, or the commit has one
            already; the remote is unknown; the version is not valid in a tag; a static check fails; or git fails.
    """
    if version.startswith(PREFIX):
        raise SubmissionError(f"version {version!r} contains the tag's prefix; write {version.removeprefix(PREFIX)}")
    tag = PREFIX + version
    if not _VERSION.fullmatch(version) or not _git_succeeds(root, "check-ref-format", f"refs/tags/{tag}"):
        raise SubmissionError(
            f"version {version!r} is invalid in a tag; use letters, digits, '.', '_', '-', as in v0.1"
        )
    check_root(root)
    remotes = git(root, "remote").split()
    if remote not in remotes:
        raise SubmissionError(
            f"there is no git remote {remote!r} (remotes: {listed(remotes) or 'none'}); run "
            f"git remote add {remote} git@gitlab.aicrowd.com:<user>/<repository>.git"
        )
    branch = git(root, "rev-parse", "--abbrev-ref", "HEAD").strip()
    if branch == "HEAD":
        raise SubmissionError("HEAD is not on a branch; switch to the branch to submit")
    files = uncommitted(root)
    if files:
        raise SubmissionError(f"{listed(files)} has uncommitted changes; commit or ignore them before you submit")
    _check_files(root)
    if _git_succeeds(root, "rev-parse", "--quiet", "--verify", f"refs/tags/{tag}"):
        raise SubmissionError(f"the tag {tag} already exists; choose another version, or run git tag -d {tag}")
    _check_tags_there(root, remote, tag)

    git(root, "tag", "-a", "-m", tag, tag, "HEAD")
    is_pushed = False
    try:
        command = ["git", "push", "--atomic", "--porcelain", remote]
        command += [f"refs/heads/{branch}:refs/heads/{branch}", f"refs/tags/{tag}:refs/tags/{tag}"]
        result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        is_pushed = result.returncode == 0
    finally:
        if not is_pushed:
            git(root, "tag", "-d", tag)
    if not is_pushed:
        rejected = [line.split("\t")[-1] for line in result.stdout.splitlines() if line.startswith("!")]
        reasons = [reason for reason in rejected if "atomic" not in reason]
        reason = reasons[0] if reasons else complaint(result.stderr)
        said = server_said(result.stderr)
        said = f"; the server says: {said}" if said and said not in reason else ""
        raise SubmissionError(f"git push to {remote} failed: {reason}{said}; nothing was submitted")
    return f"pushed {branch} and {tag} to {remote}; {where_to_look(git(root, 'remote', 'get-url', remote).strip())}"


def where_to_look(url: str) -> str:
    """Return where the evaluator reports on a submission to this remote: the issues of its repository."""
    address = urlsplit(url if "://" in url else re.sub(r"^([^/:]+):", r"ssh://\1/", url))
    repository = address.path.strip("/").removesuffix(".git")
    if address.scheme not in ("ssh", "https", "http") or not address.hostname or not repository:
        return f"{url} has no web page"
    return f"progress and scores will appear at https://{address.hostname}/{repository}/-/issues"


def _check_files(root: Path) -> None:
    # Check the commit, not the working tree: git can be configured to ignore changes of a file.
    with tempfile.TemporaryDirectory(prefix="submission_push_") as folder:
        copy = Path(folder) / "repository"
        clone(root, copy)
        for name, check in STATIC_CHECKS.items():
            finding = check(copy)
            if finding.mark != TICK:
                raise SubmissionError(f"{name}: {finding.reason}")


def _check_tags_there(root: Path, remote: str, tag: str) -> None:
    head = git(root, "rev-parse", "HEAD").strip()
    try:
        tags = git(root, "ls-remote", "--tags", remote, f"refs/tags/{PREFIX}*")
    except SubmissionError as error:
        url = git(root, "remote", "get-url", remote).strip()
        raise SubmissionError(f"cannot read the remote {remote}, {_without_password(url)}: {error}") from error
    for line in tags.splitlines():
        commit, name = line.split("\t")
        name = name.removeprefix("refs/tags/").removesuffix("^{}")
        if name == tag:
            raise SubmissionError(f"{remote} already has the tag {tag}; choose another version")
        if commit == head:
            raise SubmissionError(f"this commit is already submitted as {name}; the evaluator runs each commit once")


def _without_password(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)


def _git_succeeds(root: Path, *arguments: str) -> bool:
    return run_git(root, *arguments).returncode == 0
