"""The results of checks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """The result of a check: a tick, a warning or a cross, the reason, and the output of a failed program."""

    mark: str
    reason: str
    output: str = ""


TICK, WARNING, CROSS = "✓", "!", "✗"


def passed(reason: str) -> Finding:
    return Finding(TICK, reason)


def warned(reason: str) -> Finding:
    return Finding(WARNING, reason)


def failed(reason: str, output: str = "") -> Finding:
    return Finding(CROSS, reason, output)
