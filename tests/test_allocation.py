import subprocess
import sys

from conftest import ROOT

# Pages that are made while 20 arrays of 16 MB are filled and freed, one after the other, before and after.
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
