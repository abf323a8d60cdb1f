"""numba's `njit`, with the machine code cached for the next process if possible."""

from collections.abc import Callable
from typing import Any

import numba


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that compiles a function with `numba.njit(**options)`.

    The machine code is cached beside the source or in the user's cache folder. If neither is writable, as in a
    read-only installation without a home, numba refuses to cache, and each process compiles the function again.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:
            return numba.njit(**options)(function)

    return decorate
