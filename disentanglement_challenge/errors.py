"""The family of exceptions for mistakes that a user can correct.

Each is raised where the fact is known. Its message is one sentence that names the thing, the value and what would be
right. Only the scripts turn it into an exit code. Any other exception is a bug and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class ChallengeError(Exception):
    """Base of the family; the message is a single line meant for the user."""


class ConfigError(ChallengeError):
    """A gin file, binding or flag is invalid."""


class DataError(ChallengeError):
    """A data set is unknown, missing or wrong."""


class RepresentationError(ChallengeError):
    """A model file, or its representation, is invalid."""


class ScoreError(ChallengeError):
    """A score is undefined for these codes and factors; other scores are not affected."""


class OutputError(ChallengeError):
    """A folder cannot be written, or has results that would be overwritten."""


class TrainingError(ChallengeError):
    """A training run cannot continue."""


class SubmissionError(ChallengeError):
    """A repository cannot be submitted."""


class HubError(ChallengeError):
    """A model on Hugging Face's hub that cannot be pushed or loaded."""


class Interrupted(KeyboardInterrupt):
    """A signal has stopped the run, which has saved its state; this is not an error, but the process must end."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number  # the shell's exit code of a process that a signal has ended


def lines_of(error: BaseException) -> list[str]:
    """Return the lines of an error's message, at least one: its type's name if the message is empty.

    Lines that gin appends about configurables are left out. Control characters are replaced, as an untrusted model may
    choose the message.
    """
    said, _, _ = str(error).partition("\n  In call to configurable ")
    lines = said.strip().splitlines() or [type(error).__name__]
    return ["".join(character if character.isprintable() else " " for character in line) for line in lines]


def did_you_mean(name: object, known: Iterable[str], suffix: str = "") -> str:
    """Return the end of a message about an unknown name: "; did you mean 'nearest'?", or "" if no name is near.

    Names are compared without the suffix, which would make all of them alike.
    """
    by_stem = {one.removesuffix(suffix): one for one in known}
    close = difflib.get_close_matches(str(name).removesuffix(suffix), by_stem, n=1)
    return f"; did you mean {by_stem[close[0]]!r}?" if close else ""
