"""Runs sections of a page, each in a process that is forked from this one and so finds PyTorch imported.

Reads a JSON object with "folder", "output" and "steps" from each line of its input, and writes the exit code.
"""

import importlib
import json
import os
import runpy
import shlex
import signal
import subprocess
import sys
import traceback
from pathlib import Path

for module in ("training.run", "evaluation.harness", "evaluation.score", "export.sandbox", "pages.experiment_page"):
    importlib.import_module(f"disentanglement_challenge.{module}")

# Seconds after which a section is ended.
LIMIT = 300


def run_command(line):
    """Runs a line of shell: Python in this process, all else by bash."""
    words = shlex.split(line, comments=True)
    before, path, arguments = dict(os.environ), list(sys.path), sys.argv
    try:
        while words and "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            os.environ[name] = value
            if name == "PYTHONPATH":
                sys.path.insert(0, value)
        match words:
            case []:
                return
            case ["python", "-m", module, *rest]:
                sys.path.insert(0, "")
                sys.argv = [module, *rest]
                runpy.run_module(module, run_name="__main__", alter_sys=True)
            case ["python", script, *rest]:
                sys.path.insert(0, os.path.dirname(os.path.abspath(script)))
                sys.argv = [script, *rest]
                runpy.run_path(script, run_name="__main__")
            case ["disentanglement-challenge", *rest]:
                from disentanglement_challenge.commands import main

                main(rest)
            case _:
                subprocess.run(["bash", "-euo", "pipefail", "-c", line], check=True)
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"{line!r} ended with {end.code}") from end
    finally:
        os.environ.clear()
        os.environ.update(before)
        sys.path[:], sys.argv = path, arguments


def run_steps(steps):
    """Runs blocks one after the other; those of Python share their names."""
    names = {"__name__": "__main__"}
    for number, (language, file, text) in enumerate(steps):
        if file:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            Path(file).write_text(text + "\n")
        elif language == "python":
            exec(compile(text, f"block {number}", "exec"), names)
        else:
            for line in text.replace("\\\n", " ").split("\n"):
                run_command(line)


def child(folder, output, steps):
    """Never returns."""
    code = 1
    try:
        file = os.open(output, os.O_WRONLY | os.O_CREAT)
        for standard, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), file, file)):
            os.dup2(descriptor, standard)
        signal.alarm(LIMIT)
        os.chdir(folder)
        os.environ["NDC_ROOT"] = folder
        sys.path.insert(0, "")  # as for a notebook or a script in this folder
        run_steps(steps)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


for request in sys.stdin:
    process = os.fork()
    if not process:
        child(**json.loads(request))
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
