"""Numbers in sentences."""


def counted(number: int, noun: str) -> str:
    """Return the number with its noun, such as "1 run" or "1000 runs"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
