"""Find mistakes in gin files and bindings before the modules that they configure are imported.

`gin_names` lists the known names. gin itself checks names that a file's own `import` may register.
"""

import difflib
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from disentanglement_challenge.environment import GIN_FOLDER
from disentanglement_challenge.errors import ConfigError, did_you_mean
from disentanglement_challenge.gin_names import (
    CALLED_BY,
    EVALUATION,
    FUNCTIONS,
    GIN_NAMES,
    NOT_HERE,
    RESULTS,
    TRAINING_CALLS,
    parameters_of,
    required_of,
)
from disentanglement_challenge.gin_text import (
    Macro,
    Reference,
    Statement,
    Statements,
    read_statements,
    values_in,
)

# Files that set the bindings that most files lack, for proposals of an include, the smallest first.
_INCLUDES = ("shared.gin", "mpi3d_embedded.gin")

ParametersOf = Callable[[str], Collection[str] | None]


def check_names(
    statements: Statements, parameters: ParametersOf = parameters_of, known: Iterable[str] = GIN_NAMES
) -> None:
    """Raise ConfigError for an unknown name, parameter or macro; the message proposes the nearest one.

    Args:
        statements: the statements to check.
        parameters: returns the parameters of a name, or None if the name is unknown.
        known: all names, for proposals.
    """
    for statement in statements.bindings:
        if statement.parameter:
            _check_name(statement, statement.name, statements, parameters, known)
            _check_parameter(statement, parameters)
        for value in values_in(statement.value):
            if isinstance(value, Reference):
                _check_name(statement, value.name, statements, parameters, known, "@")
                _check_parentheses(statement, value)
            elif (
                statement.parameter in FUNCTIONS
                and not isinstance(value, Macro)
                and not (value is None and statement.parameter == "evaluation_fn")  # the challenge's five metrics
            ):
                raise ConfigError(f"{statement.source}: {value!r} is not a function; expected one like @conv_encoder")
    _check_macros(statements)


def _check_name(
    statement: Statement,
    name: str,
    statements: Statements,
    parameters: ParametersOf,
    known: Iterable[str],
    mark: str = "",
) -> None:
    if parameters(name) is not None or statements.imports:
        return
    if name in NOT_HERE:
        raise ConfigError(f"{statement.source}: {mark}{name} {NOT_HERE[name]}")
    hint = did_you_mean(name, known)
    raise ConfigError(f"{statement.source}: there is no configurable '{mark}{name}'{hint}")


def _check_parameter(statement: Statement, parameters: ParametersOf) -> None:
    known = parameters(statement.name)
    if known is not None and statement.parameter not in known:
        hint = did_you_mean(statement.parameter, known)
        has = f"; it has {', '.join(known)}" if known and not hint else ""
        raise ConfigError(f"{statement.source}: {statement.name!r} has no parameter {statement.parameter!r}{hint}{has}")


def _check_parentheses(statement: Statement, value: Reference) -> None:
    if statement.parameter in FUNCTIONS and value.is_call:
        right = str(value).removesuffix("()")
        raise ConfigError(f"{statement.source}: {value} is a call; write {right}, without ()")
    if f"{statement.name}.{statement.parameter}" in RESULTS and not value.is_call:
        raise ConfigError(f"{statement.source}: {value} is not a call; write {value}(), with ()")


def _check_macros(statements: Statements) -> None:
    macros = {_macro_name(statement) for statement in statements.bindings if not statement.parameter}
    used = set()
    for statement in statements.bindings:
        for value in values_in(statement.value):
            if isinstance(value, Macro):
                used.add(value.name)
                if value.name not in macros and not statements.imports:
                    raise ConfigError(
                        f"{statement.source}: the macro %{value.name} is used but never set; "
                        f"write {value.name} = ... in a gin file"
                    )
    for statement in statements.bindings:
        if statement.is_given and not statement.parameter and _macro_name(statement) not in used:
            raise ConfigError(
                f"{statement.source} sets the macro %{_macro_name(statement)}, which is never used; "
                f"a binding must be name.parameter = value{_nearest_bindings(statement.name, statements)}"
            )


def _macro_name(statement: Statement) -> str:
    return f"{statement.scope}/{statement.name}" if statement.scope else statement.name


def _nearest_bindings(parameter: str, statements: Statements) -> str:
    """Return a hint with the bindings whose parameter has this name or a similar one, those of the files first."""
    bound = {(statement.name, statement.parameter) for statement in statements.bindings}
    pairs = [(name, known) for name in GIN_NAMES for known in parameters_of(name) or ()]
    close = difflib.get_close_matches(parameter, {known for _, known in pairs}, n=1)
    if not close:
        return ""
    found = sorted((pair for pair in pairs if pair[1] == close[0]), key=lambda pair: pair not in bound)
    return f"; did you mean {' or '.join('.'.join(pair) for pair in found[:3])}?"


class Reach:
    """The bindings that training or scoring reads, found by following references from the functions that it calls.

    Attributes:
        names: (scope, name) of all called functions.
        used: the keys of the bindings that determine a value.
    """

    def __init__(self, statements: Statements, calls: Iterable[str]) -> None:
        """Follow the references from `calls`."""
        self._statements = statements.effective
        self.names: set[tuple[str, str]] = set()
        self.used: set[tuple[str, str, str]] = set()
        for name in calls:
            self._call("", name)

    def _call(self, scope: str, name: str) -> None:
        if (scope, name) in self.names:
            return
        self.names.add((scope, name))
        decisive = {}
        parts = scope.split("/") if scope else []
        for length in range(len(parts) + 1):  # a longer scope's binding overrides a shorter one's
            for key, statement in self._statements.items():
                if key[0] == "/".join(parts[:length]) and key[1] == name and key[2]:
                    decisive[key[2]] = statement
        for statement in decisive.values():
            self._use(statement, scope)
        for called in CALLED_BY.get(name, ()):
            self._call("", called)

    def _use(self, statement: Statement, scope: str) -> None:
        if statement.key in self.used and not statement.parameter:
            return
        self.used.add(statement.key)
        for value in values_in(statement.value):
            if isinstance(value, Reference):
                self._call(value.scope or scope, value.name)
            elif isinstance(value, Macro):
                macro_scope, _, name = value.name.rpartition("/")
                macro = self._statements.get((macro_scope, name, ""))
                if macro is not None:
                    self._use(macro, scope)


def training_reach(statements: Statements, dataset: object) -> Reach:
    """Return the bindings that training reads; `dataset` is the data set's name, as "folder" has settings."""
    return Reach(statements, (*TRAINING_CALLS, *(("folder",) if dataset == "folder" else ())))


def bound(statements: Statements, name: str, parameter: str) -> Any:
    """Return the value of a parameter, with macros resolved; None if it is not bound."""
    effective = statements.effective
    statement = effective.get(("", name, parameter))
    while statement is not None and isinstance(statement.value, Macro):
        scope, _, macro = statement.value.name.rpartition("/")
        following = effective.pop((scope, macro, ""), None)  # removed, so that circular macros end
        statement = following
    return None if statement is None else statement.value


def dataset_name(statements: Statements, default: str) -> Any:
    """Return the value of dataset.name, or the default if it is not bound or "auto"."""
    name = bound(statements, "dataset", "name")
    return default if name in (None, "auto") else name


def check_required(statements: Statements, reach: Reach, files: Sequence[str]) -> None:
    """Raise ConfigError if a parameter without a default is not bound; the message proposes an include."""
    bound = set(statements.effective)
    missing = [
        f"{scope}{'/' if scope else ''}{name}.{parameter}"
        for scope, name in sorted(reach.names)
        for parameter in required_of(name)
        if not any((prefix, name, parameter) in bound for prefix in _prefixes(scope))
    ]
    if not missing or statements.imports:  # imported modules may bind the rest
        return
    listed = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    where = " and ".join(files) or "the configuration"
    for include in _INCLUDES:
        there = {(name, parameter) for _, name, parameter in read_statements([str(GIN_FOLDER / include)], []).effective}
        if all(tuple(name.rsplit("/", 1)[-1].split(".")) in there for name in missing):
            advice = f'add include "{include}"'
            break
    else:
        advice = "bind it in a gin file or with --gin_bindings"
    raise ConfigError(f"{where} does not set {listed}; {advice}")


def _prefixes(scope: str) -> list[str]:
    parts = scope.split("/") if scope else []
    return ["/".join(parts[:length]) for length in range(len(parts) + 1)]


def unused_bindings(statements: Statements, reaches: Iterable[Reach]) -> list[str]:
    """Return the bindings of the command line, as given, that none of the stages reads."""
    if statements.imports:  # the user's own code may call anything
        return []
    used = {key for reach in reaches for key in reach.used}
    known = [s for s in statements.effective.values() if s.is_given and s.parameter and s.name in GIN_NAMES]
    return [statement.source.removeprefix("--gin_bindings ") for statement in known if statement.key not in used]


def scoring_reach(statements: Statements, dataset: object) -> Reach:
    """Return the bindings that scoring may read."""
    return Reach(statements, (*EVALUATION, "dataset", *(("folder",) if dataset == "folder" else ())))
