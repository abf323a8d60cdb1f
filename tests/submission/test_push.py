"""Push to a bare repository, with git itself."""

import re
import subprocess
import sys

import pytest
from messages import assert_error_line, facts
from repositories import commit, git, make_repository, working_tree

from disentanglement_challenge.errors import SubmissionError
from disentanglement_challenge.submission.push import push, where_to_look
from disentanglement_challenge.submission.repository import complaint


@pytest.fixture
def remote(tmp_path):
    path = tmp_path / "remote.git"
    path.mkdir()
    git(path, "init", "--quiet", "--bare")
    return path


@pytest.fixture
def repository(tmp_path, remote):
    path = tmp_path / "repository"
    path.mkdir()
    make_repository(path)
    git(path, "remote", "add", "aicrowd", str(remote))
    return path


def refs(folder):
    return set(git(folder, "for-each-ref", "--format=%(refname)", "refs/heads", "refs/tags").splitlines())


def refuse_pushes(remote):
    """Make the server reject all pushes; return the hook that does it."""
    hook = remote / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    return hook


def test_a_push_brings_the_branch_and_an_annotated_tag(repository, remote):
    head = git(repository, "rev-parse", "HEAD")
    assert re.match(facts("main", "submission-v0.1", "aicrowd"), push(repository, "v0.1"))
    assert git(remote, "rev-parse", "main") == git(remote, "rev-parse", "submission-v0.1^{commit}") == head
    assert git(remote, "cat-file", "-t", "submission-v0.1") == "tag"
    commit(repository)
    push(repository, "v0.2")
    assert refs(remote) == {"refs/heads/main", "refs/tags/submission-v0.1", "refs/tags/submission-v0.2"}


def test_another_remote_and_branch(repository, remote):
    git(repository, "switch", "--quiet", "--create", "stage2")
    git(repository, "remote", "rename", "aicrowd", "gitlab")
    push(repository, "v1", remote="gitlab")
    assert refs(remote) == {"refs/heads/stage2", "refs/tags/submission-v1"}


@pytest.mark.parametrize(
    "version", ["", " ", "v 1", "-v1", "a..b", "v1.lock", "v1.", "v~1", "v:1", "v1/2", "é", "v1\n"]
)
def test_a_version_that_makes_no_tag(repository, remote, version):
    with pytest.raises(SubmissionError, match=facts(f"version {version!r}", "v0.1")):
        push(repository, version)
    assert refs(repository) == {"refs/heads/main"}


def test_without_git(repository, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SubmissionError, match="git is not installed"):
        push(repository, "v1")


def test_a_version_with_the_prefix_of_the_tag(repository, remote):
    with pytest.raises(SubmissionError, match=facts("'submission-v0.1'", "write v0.1")):
        push(repository, "submission-v0.1")
    assert refs(remote) == set()


def test_of_a_server_that_cannot_be_read_ssh_says_why():
    said = "ssh: connect to host nowhere port 22: Connection refused\nfatal: Could not read from remote repository.\n\n"
    assert complaint(said + "Please make sure") == "ssh: connect to host nowhere port 22: Connection refused"


def change_a_file(repository):
    (repository / "apt.txt").write_text("libgl1\n")


def add_a_file(repository):
    (repository / "new.py").write_text("")


def remove_the_remote(repository):
    git(repository, "remote", "remove", "aicrowd")
    git(repository, "remote", "add", "origin", "elsewhere")


def tag(repository):
    git(repository, "tag", "submission-v1")


def leave_the_branch(repository):
    git(repository, "checkout", "--quiet", "--detach")


def put_the_placeholder_back(repository):
    path = repository / "aicrowd.json"
    path.write_text(path.read_text().replace("somebody", "your-aicrowd-username"))
    commit(repository)


def hide_that_the_placeholder_is_committed(repository):
    path = repository / "aicrowd.json"
    content = path.read_text()
    put_the_placeholder_back(repository)
    git(repository, "update-index", "--skip-worktree", "aicrowd.json")
    path.write_text(content)


def ignore_run_sh(repository):
    git(repository, "rm", "--quiet", "--cached", "run.sh")
    (repository / ".gitignore").write_text("run.sh\n")
    commit(repository)


def take_the_server_away(repository):
    git(repository, "remote", "set-url", "aicrowd", str(repository / "nowhere.git"))


@pytest.mark.parametrize(
    ("sabotage", "said"),
    [
        (change_a_file, ["apt.txt", "commit"]),
        (add_a_file, ["new.py", "commit"]),
        (remove_the_remote, ["'aicrowd'", "origin", "git remote add aicrowd git@"]),
        (tag, ["tag submission-v1", "git tag -d submission-v1"]),
        (leave_the_branch, ["HEAD", "branch"]),
        (put_the_placeholder_back, ["aicrowd.json", "authors", '"your-aicrowd-username"']),
        (hide_that_the_placeholder_is_committed, ["aicrowd.json", "authors", '"your-aicrowd-username"']),
        (ignore_run_sh, ["run.sh", "committed"]),
        (take_the_server_away, ["aicrowd", "nowhere.git", "git ls-remote: fatal: "]),
    ],
)
def test_what_is_refused_leaves_no_trace(repository, remote, sabotage, said):
    sabotage(repository)
    before = refs(repository)
    with pytest.raises(SubmissionError, match=facts(*said)) as caught:
        push(repository, "v1")
    assert "\n" not in str(caught.value)
    assert refs(repository) == before
    assert refs(remote) == set()


def test_a_tag_that_somebody_else_pushed(repository, remote, tmp_path):
    push(repository, "v1")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--no-tags", "--branch", "main", str(remote), str(clone))
    git(clone, "remote", "rename", "origin", "aicrowd")
    for name in ("user.name", "user.email"):
        git(clone, "config", name, "another")
    commit(clone)
    with pytest.raises(SubmissionError, match=facts("tag submission-v1", "another version")):
        push(clone, "v1")
    push(clone, "v2")


def test_a_commit_is_submitted_once(repository, remote):
    push(repository, "v1")
    with pytest.raises(SubmissionError, match=facts("commit", "submission-v1")):
        push(repository, "v2")
    assert "refs/tags/submission-v2" not in refs(repository) | refs(remote)


def test_a_push_that_fails_can_be_repeated(repository, remote):
    hook = refuse_pushes(remote)
    with pytest.raises(SubmissionError, match=facts("git push to aicrowd", "hook declined", "nothing was submitted")):
        push(repository, "v1")
    assert refs(repository) == {"refs/heads/main"}
    assert refs(remote) == set()
    # AIcrowd's GitLab gives the reason in a frame on stderr.
    frame = ("========", "GitLab: You have made", "5 submissions today.", "========")
    hook.write_text("\n".join(["#!/bin/sh", *(f"echo '{line}' >&2" for line in frame), "exit 1\n"]))
    said = facts("hook declined", "GitLab: You have made 5 submissions today.")
    with pytest.raises(SubmissionError, match=said):
        push(repository, "v1")
    hook.unlink()
    push(repository, "v1")
    assert refs(remote) == {"refs/heads/main", "refs/tags/submission-v1"}


def test_a_branch_that_has_gone_elsewhere_takes_the_tag_with_it(repository, remote):
    """Neither is pushed: a tag alone would submit a commit that its branch does not have."""
    push(repository, "v1")
    git(repository, "commit", "--quiet", "--amend", "--message", "Other words")
    with pytest.raises(SubmissionError, match=facts("git push to aicrowd", "[rejected] (non-fast-forward)")):
        push(repository, "v2")
    assert "refs/tags/submission-v2" not in refs(repository) | refs(remote)


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("git@gitlab.aicrowd.com:me/kit.git", "https://gitlab.aicrowd.com/me/kit/-/issues"),
        ("gitlab.aicrowd.com:me/kit", "https://gitlab.aicrowd.com/me/kit/-/issues"),
        ("ssh://git@gitlab.aicrowd.com:2222/group/me/kit.git", "https://gitlab.aicrowd.com/group/me/kit/-/issues"),
        ("https://me:secret@gitlab.aicrowd.com/me/kit.git/", "https://gitlab.aicrowd.com/me/kit/-/issues"),
        ("/srv/kit.git", None),
        ("../kit.git", None),
        ("file:///srv/kit.git", None),
    ],
)
def test_where_to_look(url, page):
    place = where_to_look(url)
    assert place.endswith(f" {page}") if page else place.startswith(url) and "/-/issues" not in place
    assert "secret" not in place


@pytest.mark.processes
def test_the_command(tmp_path, remote):
    repository = tmp_path / "repository"
    repository.mkdir()
    make_repository(repository, working_tree())
    command = [sys.executable, "-m", "disentanglement_challenge.submission", "push", "v1"]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert_error_line(result.stderr, "'aicrowd'", "git remote add aicrowd")
    git(repository, "remote", "add", "aicrowd", str(remote))
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert re.fullmatch(facts("main", "submission-v1", "aicrowd", remote) + r".+\n", result.stdout)
    assert "refs/tags/submission-v1" in refs(remote)
