"""Checks of numbers, names and switches that a user sets; each raises ConfigError and names the setting.

A message gives the setting, the value found, and what would be right, in that order.
"""

import sys
from collections.abc import Collection
from pathlib import Path
from typing import TypeVar

from disentanglement_challenge.errors import ConfigError, did_you_mean

T = TypeVar("T")

# The largest seed of disentanglement_lib's random generators, which is also enough for any other count.
LARGEST_COUNT = 2**32 - 1


def check_count(name: str, value: object, minimum: int = 1) -> int:
    """Return the value if it is an integer from the minimum to `LARGEST_COUNT`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ConfigError(f"{name} is {value!r}; it must be an integer of at least {minimum}")
    if value > LARGEST_COUNT:
        raise ConfigError(f"{name} is {value}; it must be at most {LARGEST_COUNT}")
    return value


def check_number(
    name: str, value: object, minimum: float | None = None, above: float | None = None, maximum: float | None = None
) -> float:
    """Return the value if it is a finite number within the given bounds; `above` is an exclusive bound."""
    # math.isfinite raises for integers beyond the floats.
    is_number = not isinstance(value, bool) and isinstance(value, int | float) and abs(value) <= sys.float_info.max
    if (
        not is_number
        or (minimum is not None and value < minimum)  # type: ignore[operator]
        or (above is not None and value <= above)  # type: ignore[operator]
        or (maximum is not None and value > maximum)  # type: ignore[operator]
    ):
        bounds = [
            *([f"at least {minimum}"] if minimum is not None else []),
            *([f"above {above}"] if above is not None else []),
            *([f"at most {maximum}"] if maximum is not None else []),
        ]
        raise ConfigError(f"{name} is {value!r}; it must be a finite number{', ' if bounds else ''}{', '.join(bounds)}")
    return value  # type: ignore[return-value]


def check_choice(name: str, value: T, choices: Collection[T]) -> T:
    """Return the value if it is one of the choices."""
    if not isinstance(value, str | int | float | bool) or value not in choices:
        known = ", ".join(map(repr, choices))
        raise ConfigError(f"{name} is {value!r}; it must be one of {known}{did_you_mean(value, map(str, choices))}")
    return value


def check_switch(name: str, value: object) -> bool:
    """Return the value if it is True or False."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is {value!r}; it must be True or False")
    return value


def check_suffix(name: str, path: Path, suffixes: Collection[str]) -> Path:
    """Return the path of a file to be written if it ends in one of the suffixes.

    So a file of another kind, such as an input, is not overwritten by a slip of the flags.
    """
    if path.suffix not in suffixes:
        raise ConfigError(f"{name} {path} ends in {path.suffix!r}; it must end in {' or '.join(suffixes)}")
    return path
