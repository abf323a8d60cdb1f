"""Read gin files and bindings, and report mistakes in one line."""

import copy
import importlib.util  # gin 0.4.0 uses it for includes and leaves the import to others
import inspect
import logging
import re
import tokenize
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import gin
from gin import config as gin_config

from disentanglement_challenge.environment import GIN_FOLDER
from disentanglement_challenge.errors import ConfigError, lines_of
from disentanglement_challenge.gin_checks import check_names
from disentanglement_challenge.gin_names import GIN_NAMES, parameters_of
from disentanglement_challenge.gin_text import find_gin_file, read_statements, values_in

# gin's exceptions for a file or line that it cannot bind.
_GIN_ERRORS = (ValueError, TypeError, SyntaxError, OSError, ImportError, tokenize.TokenError, RecursionError)
# PyTorch's messages for a lack of memory, on the CPU and on a GPU; Python raises MemoryError.
_NO_MEMORY = re.compile("can't allocate memory|out of memory|Storage size calculation overflowed")


@contextmanager
def gin_configuration(
    files: Sequence[str] = (), bindings: Sequence[str] = (), skip_unknown: Sequence[str] = ()
) -> Iterator[None]:
    """Make these gin files and bindings the configuration inside the block, and no configuration after it.

    Args:
        files: gin files, as given or relative to the project's gin folder; included files, also indirect ones, are
            looked for in that file's folder and in the gin folder. Later files override earlier ones.
        bindings: lines such as "encoder.num_latent = 10"; they override the files.
        skip_unknown: names of configurables whose bindings are ignored if they are not registered, in addition to those
            of `gin_names`, which belong to another stage.

    Raises:
        ConfigError: a file is missing, or gin cannot bind a name, parameter or value; in the block, a configurable
            cannot use a value, or the memory is too small.
    """
    gin.clear_config()
    try:
        # gin logs each place where it looks for a file, as errors of the root logger.
        logging.disable()
        try:
            _parse(files, bindings, skip_unknown)
        finally:
            logging.disable(logging.NOTSET)
        yield
    except ConfigError as error:
        # A check that several configurables share, such as that of an activation, cannot name the one that called it.
        called = _called(error)
        parameter = lines_of(error)[0].partition(" ")[0]
        if called and parameter in (parameters_of(called[0]) or ()):
            raise ConfigError(f"{called[0]}.{lines_of(error)[0]}") from error
        raise
    except (RuntimeError, MemoryError, TypeError, ValueError, OverflowError, AttributeError) as error:
        # gin raises this at the call, as a RuntimeError.
        if "Required bindings" in str(error):
            raise ConfigError(_required(str(error))) from error
        called = _called(error)
        if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
            advice = _memory_advice(called)
            said = lines_of(error)[0]
            raise ConfigError(f"there is not enough memory for this configuration: {said:.200}{advice}") from error
        if called and not isinstance(error, RuntimeError):
            raise ConfigError(f"a binding of {called[0]!r} has a wrong value: {lines_of(error)[0]}") from error
        raise
    finally:
        gin.clear_config()


def _called(error: BaseException) -> list[str]:
    """Return the configurables that an error passed through, as gin appends them; the first one got the wrong value."""
    return re.findall(r"In call to configurable '([^']+)'", str(error))


def bound_parameters(name: str) -> dict[str, Any]:
    """Return the arguments that gin would pass to a configurable, and record them in the operative configuration.

    It is for code that replaces a configurable and should have the same bindings. Scopes are ignored.
    """
    selector = gin_config._REGISTRY.get_match(name).selector
    parameters = gin_config._CONFIG.get(("", selector), {})
    gin_config._OPERATIVE_CONFIG.setdefault(("", selector), {}).update(parameters)
    # gin itself also resolves macros and references by copying.
    return copy.deepcopy(parameters)


def operative_bindings() -> dict[str, str]:
    """Return all parameters used so far, from gin or defaults: names such as "vae/AdamOptimizer.beta1" to values.

    The values are in gin's notation.
    """
    return {
        f"{scope + '/' if scope else ''}{selector.rsplit('.', 1)[-1]}.{parameter}": repr(value)
        for (scope, selector), parameters in gin_config._OPERATIVE_CONFIG.items()
        for parameter, value in parameters.items()
    }


@contextmanager
def bound_otherwise(name: str, value: Any) -> Iterator[None]:
    """Bind another value inside the block, and restore the bindings and the operative configuration at its end.

    So several variants of one configuration can be made one after the other, each with an operative configuration of
    its own.
    """
    whole: tuple[dict[Any, dict[str, Any]], ...] = (gin_config._CONFIG, gin_config._OPERATIVE_CONFIG)
    before = [{selector: dict(bindings) for selector, bindings in part.items()} for part in whole]
    gin.bind_parameter(name, value)
    try:
        yield
    finally:
        for part, was in zip(whole, before, strict=True):
            part.clear()
            part.update(was)


def _memory_advice(called: Collection[str]) -> str:
    """Return advice for a lack of memory: the called configurables' numbers to lower, otherwise the batch size."""
    numbers = [
        f"{selector.rsplit('.', 1)[-1]}.{parameter} (now {value})"
        for (_, selector), parameters in gin_config._OPERATIVE_CONFIG.items()
        for parameter, value in parameters.items()
        if selector.rsplit(".", 1)[-1] in called and isinstance(value, int | float) and not isinstance(value, bool)
    ]
    batch_size = bound_value("model.batch_size")
    numbers = numbers or ([f"model.batch_size (now {batch_size})"] if batch_size is not None else [])
    return f"; lower {' or '.join(numbers)}" if numbers else ""


def bound_value(name: str) -> Any:
    """Return the value of a binding such as "encoder.num_latent", with macros resolved, or None if it is not set."""
    try:
        value = gin.query_parameter(name)
    except ValueError:
        return None
    # gin resolves a reference by copying it.
    is_macro = isinstance(value, gin_config.ConfigurableReference) and value.selector == "gin.macro"
    return copy.deepcopy(value) if is_macro else value


def _parse(files: Sequence[str], bindings: Sequence[str], skip_unknown: Sequence[str]) -> None:
    known = [selector.rsplit(".", 1)[-1] for selector, _ in gin_config._REGISTRY.items()] + list(GIN_NAMES)
    check_names(read_statements(files, bindings), partial(_parameters, skip_unknown), known)
    # Known names that are not imported belong to another stage, which checks their values.
    passed_over = [*GIN_NAMES, *skip_unknown]
    for file in files:
        path = find_gin_file(file)
        _set_search_path([path.parent, GIN_FOLDER])
        with _named(file):
            parsed = gin.parse_config_file(str(path), skip_unknown=passed_over)
            _check_imports(parsed.imports, parsed.includes)
    _set_search_path([GIN_FOLDER])
    for binding in bindings:
        with _named(f"--gin_bindings {binding!r}"):
            includes, imports = gin.parse_config(binding, skip_unknown=passed_over)
            _check_imports(imports, includes)
    _check_references()


@contextmanager
def _named(source: str) -> Iterator[None]:
    """Turn gin's exceptions for a file or line into one line that names it."""
    try:
        yield
    except _GIN_ERRORS as error:
        unknown = re.search(r"No configurable matching(?: reference)? '@?([^']+?)(?:\(\))?'", str(error))
        said = f"there is no configurable {unknown.group(1)!r}" if unknown else lines_of(error)[0]
        raise ConfigError(f"{source}: {said}") from error


class _Anything(frozenset[str]):
    """The parameters of a configurable that accepts any."""

    def __contains__(self, item: object) -> bool:
        return True


def _parameters(skip_unknown: Sequence[str], name: str) -> Collection[str] | None:
    """Return the parameters that gin may bind of a name, registered or not; None if the name is unknown."""
    selectors = gin_config._REGISTRY.matching_selectors(name)
    if not selectors:
        return _Anything() if name in skip_unknown and name not in GIN_NAMES else parameters_of(name)
    configurable = gin_config._REGISTRY[selectors[0]]
    signature = inspect.signature(configurable.fn_or_cls).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature):
        return _Anything()
    names = [parameter.name for parameter in signature]
    allowed, denied = configurable.allowlist or names, configurable.denylist or ()
    return [name for name in names if name in allowed and name not in denied]


def _check_imports(modules: Iterable[str], includes: Iterable[Any]) -> None:
    """Raise ImportError if a module does not exist, which gin ignores when it may skip unknown names."""
    for module in modules:
        importlib.import_module(module)
    for included in includes:
        _check_imports(included.imports, included.includes)


def _set_search_path(folders: Iterable[Path]) -> None:
    # gin only appends to its search path, so a file's folder would also be searched for later files.
    gin_config._LOCATION_PREFIXES[:] = [str(folder) for folder in folders]


def _check_references() -> None:
    """Raise ConfigError for an unknown function in a reference `@name`, which gin would only report when it is called.

    Only a gin file's own import can let one pass. `gin.finalize` would find them, but in gin-config 0.4.0 it needs
    Python 3.9 or older.
    """
    for _, parameters in gin_config._CONFIG.items():
        for value in values_in(list(parameters.values())):
            if isinstance(value, gin_config._UnknownConfigurableReference):
                raise ConfigError(f"there is no configurable '@{value.selector}'")
            if isinstance(value, gin_config.ConfigurableReference) and value.selector == "gin.macro":
                name = "/".join(value.scopes)
                if (name, "gin.macro") not in gin_config._CONFIG:
                    raise ConfigError(f"the macro %{name} is used but never set; write {name} = ... in a gin file")


def _required(message: str) -> str:
    match = re.search(r"Required bindings for `([^`]+)` not provided in config: \[(.*?)\]", message)
    if not match:
        return message.splitlines()[0]
    names = ", ".join(f"{match.group(1)}.{name.strip(chr(39))}" for name in match.group(2).split(", "))
    return f"the gin configuration does not set {names}; bind it in a gin file or with --gin_bindings"
