"""numba's `njit`, with the machine code cached for the next process if possible."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numba


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that compiles a function with `numba.njit(**options)`.

    The machine code is cached beside the source or in the user's cache folder. If neither is writable, as in a
    read-only installation without a home, numba refuses to cache, and each process compiles the function again; so it
    does on a full disk.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            dispatcher = numba.njit(cache=True, **options)(function)
        except RuntimeError:
            return numba.njit(**options)(function)
        cache = dispatcher._cache
        save = cache.save_overload

        def save_if_there_is_room(*arguments: Any) -> None:
            with suppress(OSError):  # numba lets it through, such as where the home's quota is used up
                save(*arguments)

        cache.save_overload = save_if_there_is_room
        return dispatcher

    return decorate
