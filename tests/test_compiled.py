import errno
import os

import numba
import pytest

from disentanglement_challenge.compiled import compiled


def from_nowhere():
    """Make a function without a source file, so that numba has no place for its cache."""
    namespace = {}
    exec("def twice(x):\n    return 2 * x", namespace)
    return namespace["twice"]


def test_a_function_that_cannot_be_cached_is_compiled_all_the_same():
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(from_nowhere())
    assert compiled()(from_nowhere())(21) == 42


def twice(x):
    return 2 * x


def test_a_full_disk_costs_the_cache_alone(monkeypatch):
    def no_room(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(numba.core.caching.Cache, "save_overload", no_room)
    with pytest.raises(OSError, match="No space"):
        numba.njit(cache=True)(twice)(21)
    assert compiled()(twice)(21) == 42


def test_options_reach_numba():
    assert compiled(nogil=True)(from_nowhere()).targetoptions["nogil"] is True
