"""Read gin files and bindings as statements, without importing the modules that they configure.

gin itself reads a file and binds its values in one step, which needs all imports, and reports mistakes in its own
words. Here only its parser is used, so that a mistake gives one line with the file, the text and what would be right.
"""

import os
import re
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gin import config_parser

from disentanglement_challenge.environment import GIN_FOLDER
from disentanglement_challenge.errors import ConfigError, did_you_mean, lines_of

_SHOWN = 100  # characters of a line in a message


@dataclass(frozen=True)
class Reference:
    """A value such as @vae/AdamOptimizer or @factor_vae(): a name, its scope, and whether it has parentheses."""

    scope: str
    name: str
    is_call: bool

    def __str__(self) -> str:
        return f"@{self.scope}{'/' if self.scope else ''}{self.name}{'()' if self.is_call else ''}"


@dataclass(frozen=True)
class Macro:
    """A macro's value such as %N."""

    name: str


@dataclass(frozen=True)
class Statement:
    """A binding or the setting of a macro.

    Attributes:
        scope: "vae" in vae/AdamOptimizer.beta1; "" if there is none.
        name: the configurable's name without its module, or the macro's name.
        parameter: the parameter; "" for a macro.
        value: literals, `Reference`s, `Macro`s, and containers of these.
        source: its place, for messages.
        is_given: whether it was given on the command line.
    """

    scope: str
    name: str
    parameter: str
    value: Any
    source: str
    is_given: bool

    @property
    def key(self) -> tuple[str, str, str]:
        """Scope, name and parameter; a later statement with the same key overrides this one."""
        return self.scope, self.name, self.parameter


@dataclass
class Statements:
    """All bindings of gin files and of the command line, in order, and the modules that the files import."""

    bindings: list[Statement] = field(default_factory=list)
    imports: list[str] = field(default_factory=list)

    @property
    def effective(self) -> dict[tuple[str, str, str], Statement]:
        """The last binding of each parameter and macro."""
        return {statement.key: statement for statement in self.bindings}


def read_statements(files: Sequence[str], bindings: Sequence[str]) -> Statements:
    """Read gin files, the files that they include, and bindings.

    Args:
        files: as given or relative to the project's gin folder; included files, also indirect ones, are looked for in
            that file's folder and in the gin folder.
        bindings: lines such as "encoder.num_latent = 10".

    Raises:
        ConfigError: a file is missing, or gin cannot parse a line.
    """
    statements = Statements()
    for file in files:
        path = find_gin_file(file)
        _read_file(statements, path, file, path.parent, (path,))
    for binding in bindings:
        source = f"--gin_bindings {binding[:_SHOWN]!r}"
        _read(statements, binding, source, GIN_FOLDER, (), is_given=True)
    return statements


def find_gin_file(file: str) -> Path:
    """Return the absolute path of a gin file, given as a path or relative to the gin folder; raise ConfigError."""
    expanded = os.path.expanduser(file)
    for candidate in (Path(expanded), GIN_FOLDER / file):
        if os.path.isfile(candidate):
            return Path(os.path.abspath(candidate))
    # Candidates as a user would write them: in the given folder, or relative to the gin folder.
    folder = Path(expanded).parent
    known = [str(path) for path in folder.glob("*.gin")] if os.path.isdir(folder) else []
    known += [str(path.relative_to(GIN_FOLDER)) for path in GIN_FOLDER.rglob("*.gin")]
    hint = did_you_mean(file, known, ".gin")
    raise ConfigError(f"there is no gin file {file!r}, neither in {os.getcwd()} nor in {GIN_FOLDER}{hint}")


def config_bindings(text: str) -> dict[str, str]:
    """Return the bindings of a configuration as gin writes it: names to values, as text, each in one line."""
    bindings: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if not line[0].isspace() and " = " in line:
            name, _, value = line.partition(" = ")
            bindings[name] = value.rstrip("\\").strip()
        elif name:
            bindings[name] = f"{bindings[name]} {line.strip()}".strip()
    return bindings


def values_in(value: Any) -> Iterator[Any]:
    """Yield the literals, references and macros in a value."""
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        for item in value:
            yield from values_in(item)
    else:
        yield value


def _read_file(statements: Statements, path: Path, source: str, folder: Path, within: tuple[Path, ...]) -> None:
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {source}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{source} is not UTF-8 text; save it as UTF-8") from error
    if text.startswith("\ufeff"):
        raise ConfigError(f"{source} starts with a byte-order mark; save it as UTF-8 without one")
    _read(statements, text, source, folder, within, is_given=False)


def _read(
    statements: Statements, text: str, source: str, folder: Path, within: tuple[Path, ...], is_given: bool
) -> None:
    for statement in _parsed(text, source, is_given):
        line = "" if is_given or statement.location is None else f", line {statement.location[1]}"
        if isinstance(statement, config_parser.ImportStatement):
            statements.imports.append(statement.module)
        elif isinstance(statement, config_parser.IncludeStatement):
            included = _find_included(statement.filename, f"{source}{line}", folder)
            if included in within:
                raise ConfigError(f"{source}{line}: include {statement.filename!r} is circular; remove it")
            _read_file(statements, included, statement.filename, folder, (*within, included))
        else:
            parts = (statement.scope, statement.selector.rsplit(".", 1)[-1], statement.arg_name)
            statements.bindings.append(Statement(*parts, statement.value, f"{source}{line}", is_given))


def _find_included(file: str, source: str, folder: Path) -> Path:
    folders = list(dict.fromkeys((folder, GIN_FOLDER)))
    for candidate in folders:
        if os.path.isfile(candidate / file):
            return Path(os.path.abspath(candidate / file))
    # Not below the user's folder, which may be a whole home.
    known = [path.name for path in folder.glob("*.gin")]
    known += [str(path.relative_to(GIN_FOLDER)) for path in GIN_FOLDER.rglob("*.gin")]
    places = " nor in ".join(map(str, folders))
    nowhere = f"is neither in {places}" if len(folders) > 1 else f"is not in {places}"
    raise ConfigError(f"{source}: the included file {file!r} {nowhere}{did_you_mean(file, known, '.gin')}")


class _Delegate(config_parser.ParserDelegate):
    def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> Reference:
        scope, _, selector = scoped_configurable_name.rpartition("/")
        return Reference(scope, selector.rsplit(".", 1)[-1], evaluate)

    def macro(self, macro_name: str) -> Macro:
        return Macro(macro_name)


def _parsed(text: str, source: str, is_given: bool) -> Iterable[Any]:
    try:
        return list(config_parser.ConfigParser(text, _Delegate()))
    except (SyntaxError, ValueError, TypeError, RecursionError, tokenize.TokenError) as error:
        number = getattr(error, "lineno", None) or (len(text.splitlines()) if not is_given else None)
        lines = text.splitlines()
        line = lines[number - 1].strip() if number and number <= len(lines) else ""
        where = source if is_given else f"{source}, line {number}: {line[:_SHOWN]!r}"
        raise ConfigError(f"{where}: {_explain(error, line if not is_given else text)}") from error


def _explain(error: Exception, line: str) -> str:
    message = lines_of(error)[0]
    key, equals, value = line.partition("=")
    if "Expected '='" in message:
        return "a binding must be name.parameter = value, such as encoder.num_latent = 10"
    if "Expected newline" in message:
        return "there is text after the value; write one binding per line"
    if "Malformatted scope or selector" in message:
        return f"{key.strip()!r} is not a name; expected one like encoder.num_latent or vae/AdamOptimizer.beta1"
    if isinstance(error, IndentationError):
        return "its indentation differs from the lines before; start each binding at the first column"
    if "Unexpected token" in message and value.strip()[:1] in ("@", "%"):
        return "the value is not a reference like @conv_encoder or @factor_vae(), or a macro like %N"
    if "Unexpected token" in message:
        return "a line must start with a name, as in encoder.num_latent = 10"
    if "Unable to parse value" in message and equals and not value.strip():
        return "there is no value after the '='"
    if re.search("Expected ['\"]?[,:)\\]}]", message) or isinstance(error, tokenize.TokenError):
        return "a bracket or a quote is not closed; text needs quotes, brackets need closing"
    if isinstance(error, SyntaxError) or message.startswith("malformed node"):
        return "its value is not a Python literal; text needs quotes, brackets need closing"
    return message
