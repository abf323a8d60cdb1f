"""What results are computed with: the commit, as git itself names it in a small repository."""

import subprocess

from disentanglement_challenge import provenance


def git(folder, *arguments):
    command = ["git", "-c", "user.name=n", "-c", "user.email=n@example.org", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_is_named_and_whether_a_file_differs_from_it(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert provenance.commit() is None
    git(tmp_path, "init", "--quiet")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    git(tmp_path, "tag", "v1")  # which is no commit's name that stays
    head = git(tmp_path, "rev-parse", "HEAD")
    assert provenance.provenance()["commit"] == head
    (tmp_path / "results.json").write_text("{}")  # what a run leaves is no change to the code
    assert provenance.commit() == head
    (tmp_path / "file").write_text("two")
    assert provenance.commit() == f"{head}-dirty"
    monkeypatch.setattr(provenance, "IS_TREE", False)  # an installation may lie in a clone of something else
    assert provenance.commit() is None
