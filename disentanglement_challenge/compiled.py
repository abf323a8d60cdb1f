"""numba's `njit`, keeping the machine code for the next process where there is a place to keep it."""

from collections.abc import Callable
from typing import Any

import numba


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that compiles a function with `numba.njit(**options)`.

    The machine code is cached beside the source or in the user's cache folder. Where neither can be written, as in a
    read-only installation without a home, numba refuses to cache; the function is then compiled anew in each process.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:
            return numba.njit(**options)(function)

    return decorate
