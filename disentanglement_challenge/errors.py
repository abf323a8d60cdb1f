"""The one family of exceptions that a user can put right.

Each is raised where the fact is known, with one sentence that names the thing, the value and what would be right.
Only the scripts turn one into an exit code; anything else that escapes is a bug and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class ChallengeError(Exception):
    """Base of the family; the message is a single line meant for the user."""


class ConfigError(ChallengeError):
    """A gin file, binding or flag that cannot be carried out."""


class DataError(ChallengeError):
    """A data set that is unknown, missing, or not what its name promises."""


class RepresentationError(ChallengeError):
    """A model file, or the representation it computes, that cannot be scored."""


class ScoreError(ChallengeError):
    """A score that these codes and factors do not have; the other scores are none the worse."""


class OutputError(ChallengeError):
    """A folder that cannot be written, or that holds something worth keeping."""


class TrainingError(ChallengeError):
    """A training run that cannot go on."""


class SubmissionError(ChallengeError):
    """A repository that cannot be submitted."""


class HubError(ChallengeError):
    """A model on Hugging Face's hub that cannot be pushed or loaded."""


class Interrupted(KeyboardInterrupt):
    """A run that a signal has stopped, after it put in order what it leaves; no error, and nothing goes on after it."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number  # as the shell reports a process that a signal has ended


def lines_of(error: BaseException) -> list[str]:
    """The lines of what an error says, at least one: its type's name where it says nothing.

    Without those that gin adds to an error, of the configurables that it passes through, and without characters that a
    terminal would obey: a model may be somebody else's, and choose the words.
    """
    said, _, _ = str(error).partition("\n  In call to configurable ")
    lines = said.strip().splitlines() or [type(error).__name__]
    return ["".join(character if character.isprintable() else " " for character in line) for line in lines]


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """How a message about an unknown name goes on: "; did you mean 'nearest'?", or nothing where none is near."""
    close = difflib.get_close_matches(str(name), list(dict.fromkeys(known)), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
