"""Git repositories to check and to push."""

import shutil
import subprocess

from conftest import ROOT

MANIFESTS = ("aicrowd.json", "environment.yml", "requirements.txt", "apt.txt", "run.sh")


def git(folder, *arguments):
    result = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return result.stdout.strip()


def working_tree():
    """Return the project's current files, committed or not."""
    listed = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate").splitlines()
    return [name for name in listed if (ROOT / name).is_file()]


def make_repository(folder, files=MANIFESTS, **changed):
    """Make a repository with these files of the project, an author, and changed content for some files."""
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "config", "user.name", "Somebody")
    git(folder, "config", "user.email", "somebody@example.org")
    aicrowd_json = folder / "aicrowd.json"
    aicrowd_json.write_text(aicrowd_json.read_text().replace("your-aicrowd-username", "somebody"))
    for name, content in changed.items():
        (folder / name).write_text(content)
    commit(folder)
    return folder


def commit(folder):
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "A change")
