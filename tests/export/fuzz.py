"""Load mutated models in sandboxes and count the outcomes: python fuzz.py NUM_FILES SEED FOLDER

It is a separate program, as each sandbox is a fork of it, and a forked process must not have threads.
"""

import collections
import json
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from forked_sandbox import ForkedSandbox

from disentanglement_challenge.errors import RepresentationError
from disentanglement_challenge.export.model_file import export_model
from disentanglement_challenge.models import MeanEncoder
from disentanglement_challenge.models.encoders import conv_encoder

IMAGES = np.random.RandomState(0).rand(2, 64, 64, 3).astype(np.float32)


def flipped(content, random):
    """Change some bytes."""
    content = bytearray(content)
    for position in random.randint(len(content), size=random.randint(1, 33)):
        content[position] = random.randint(256)
    return bytes(content)


def rearranged(content, random):
    """Remove, repeat or insert some bytes."""
    start, stop = np.sort(random.randint(len(content) + 1, size=2))
    choice = random.randint(4)
    if choice == 0:
        return content[:start]
    if choice == 1:
        return content[:start] + content[stop:]
    if choice == 2:
        return content[:stop] + content[start:]
    return content[:start] + random.bytes(random.randint(1, 4096)) + content[start:]


def in_entries(content, random, path):
    """Mutate some entries of an archive, small ones more often, and correct their check sums."""
    path.write_bytes(content)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    names = [name for name in entries if entries[name]]
    weights = 1 / np.sqrt([len(entries[name]) for name in names])
    for name in random.choice(names, size=random.randint(1, 4), p=weights / weights.sum()):
        entries[name] = (flipped, rearranged)[random.randint(2)](entries[name] or b"0", random)
    with zipfile.ZipFile(path, "w") as archive:
        for name, entry in entries.items():
            archive.writestr(name, entry)
    return path.read_bytes()


def outcome(path):
    """Return what happens to the model: refused in one line, ended by a signal in its process, or scored."""
    try:
        with ForkedSandbox(path, memory_limit=1 << 30, time_limit=20) as sandbox:
            representation = sandbox(IMAGES)
    except RepresentationError as error:
        message = str(error)
        if "\n" in message or len(message) > 2000:
            raise AssertionError(f"not a line: {message!r}") from error
        return "crashed" if "ended its process" in message else "too slow" if "took longer" in message else "refused"
    if representation.shape[0] != 2 or not np.isfinite(representation).all():
        raise AssertionError("no representation")
    return "scored"


def main():
    num_files, seed, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    random = np.random.RandomState(seed)
    model = MeanEncoder(conv_encoder((3, 64, 64), 5, width=0.25))
    originals = {suffix: Path(export_model(model, folder / f"original{suffix}")).read_bytes() for suffix in SUFFIXES}
    counts = {suffix: collections.Counter() for suffix in SUFFIXES}
    scratch = folder / "scratch"
    scratch.mkdir()
    os.chdir(scratch)
    for number in range(num_files):
        suffix = SUFFIXES[number % len(SUFFIXES)]
        path = folder / f"mutated{suffix}"
        content = originals[suffix]
        if suffix != ".onnx" and random.randint(3):
            content = in_entries(content, random, path)
        else:
            content = (flipped, rearranged)[random.randint(2)](content, random)
        path.write_bytes(content)
        counts[suffix][outcome(path)] += 1
        if list(scratch.iterdir()):
            raise AssertionError(f"file {number} made {list(scratch.iterdir())}")
    print(json.dumps(counts))


SUFFIXES = (".pt", ".pt2", ".pt", ".onnx")  # half of the files have the challenge's format

if __name__ == "__main__":
    main()
