"""What a check found."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A tick, a warning or a cross, why, and what was printed by what failed."""

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
