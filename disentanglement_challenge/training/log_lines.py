"""Write and read train/log.jsonl: a line of JSON for each logged step, readable without TensorBoard or TensorFlow."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from disentanglement_challenge.errors import DataError, OutputError
from disentanglement_challenge.files import replacing


def read_log(path: Path) -> list[dict[str, float]]:
    """Read the entries of a log.jsonl, each with its step; ignore an incomplete last line of a killed process.

    Raises:
        DataError: the file cannot be read, or another line is damaged.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise DataError(f"{path} cannot be read: {reason}") from error
    entries = []
    for number, line in enumerate(lines[:-1], start=1):  # behind the last line's end is nothing, or a torn line
        try:
            entry: Any = json.loads(line)
            if not isinstance(entry["step"], int) or not all(
                isinstance(value, int | float) for value in entry.values()
            ):
                raise TypeError("not names and numbers")
        except (ValueError, TypeError, LookupError) as error:
            raise DataError(f"{path} is damaged: line {number} is not a step and its losses") from error
        entries.append(entry)
    return entries


class LogLines:
    """An append-only file of JSON lines; each line is on the disk when the call returns."""

    def __init__(self, path: Path, done: int) -> None:
        self._path = path
        # Remove the lines of steps that will be repeated.
        kept = [entry for entry in read_log(path) if entry["step"] <= done] if path.exists() else []
        with replacing(path) as temporary:
            temporary.write_text("".join(json.dumps(entry) + "\n" for entry in kept), encoding="utf-8")
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND)
        except OSError as error:
            raise self._refused(error) from error

    def append(self, entry: Mapping[str, float]) -> None:
        line = (json.dumps(entry) + "\n").encode()
        try:
            if os.write(self._file, line) < len(line):
                raise OSError("the disk is full")
        except OSError as error:
            raise self._refused(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def _refused(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write {self._path}: {error.strerror or error}")
