import ctypes
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import ROOT

from disentanglement_challenge.allocation import keep_freed_memory

# Counts the new pages while 20 arrays of 16 MB are filled and freed one after the other, before and after the call.
PROGRAM = """
import resource
import numpy as np
from disentanglement_challenge.allocation import keep_freed_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        (np.ones(2 << 20), np.ones(2 << 20))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

pages()
before = pages()
keep_freed_memory()
pages()
print(before, pages())
"""


def test_memory_that_is_asked_for_again_is_not_made_again():
    result = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    before, after = map(int, result.stdout.split())
    assert after < before / 10


@pytest.mark.parametrize(
    ("largest", "taken"),
    [
        (1 << 40, [(-3, 256 << 20), (-1, 512 << 20)]),
        (32 << 20, [(-3, 32 << 20), (-1, 512 << 20)]),
        (0, []),
    ],
)
def test_an_older_glibc_refuses_a_large_threshold(monkeypatch, largest, taken):
    """This glibc may be newer; the limit is malloc.c's HEAP_MAX_SIZE / 2, only for M_MMAP_THRESHOLD."""
    settings = []

    def mallopt(parameter, value):
        if parameter == -3 and value > largest:
            return 0
        settings.append((parameter, value))
        return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    keep_freed_memory()
    assert settings == taken
