"""Reading gin files and bindings, and saying what is wrong with them in one line."""

import copy
import importlib.util  # gin 0.4.0 uses it for includes and leaves the import to others
import inspect
import logging
import os
import re
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gin
from gin import config as gin_config

from disentanglement_challenge.errors import ConfigError, did_you_mean, lines_of

_PACKAGE = Path(__file__).resolve().parent
ROOT = _PACKAGE.parent
# Whether the package is used in the project's own tree, which has the gin files beside it. An installation has them in
# the package, as beside it lies gin-config's own package of that name.
IS_TREE = not (_PACKAGE / "gin_files").is_dir()
GIN_FOLDER = ROOT / "gin" if IS_TREE else _PACKAGE / "gin_files"

# The settings of disentanglement_lib's metrics may stand in the same gin file as those of training, which does not
# import the library: it passes over these names, and the evaluation, which does, checks them.
EVALUATION_CONFIGURABLES = (
    "evaluation", "factor_vae_score", "prune_dims", "dci", "sap_score", "mig", "irs", "discretizer", "beta_vae_sklearn",
    "modularity_explicitness", "unsupervised_metrics", "activity", "representation_table", "sandbox",
    "histogram_discretizer",
)  # fmt: skip


# What gin raises for a file or line that it cannot bind.
_GIN_ERRORS = (ValueError, TypeError, SyntaxError, OSError, ImportError, tokenize.TokenError, RecursionError)
# How PyTorch says, on the CPU and on a GPU, what Python says by a MemoryError.
_NO_MEMORY = re.compile("can't allocate memory|out of memory|Storage size calculation overflowed")


@contextmanager
def gin_configuration(
    files: Sequence[str] = (), bindings: Sequence[str] = (), skip_unknown: Sequence[str] = ()
) -> Iterator[None]:
    """Makes these gin files and bindings the configuration inside the block, and no configuration after it.

    Args:
        files: gin files, as given or relative to the project's gin folder; what a file includes, directly or not, is
            looked for in that file's folder and in the gin folder. Later ones override earlier ones.
        bindings: lines such as "encoder.num_latent = 10"; they override the files.
        skip_unknown: names of configurables whose bindings are passed over when they are not registered.

    Raises:
        ConfigError: a file that is not there, or a name, parameter or value that gin cannot bind; in the block, a value
            that a configurable cannot use, or more memory than there is.
    """
    gin.clear_config()
    try:
        # gin reports every place it looks for a file in, as errors of the root logger.
        logging.disable()
        try:
            _parse(files, bindings, skip_unknown)
        finally:
            logging.disable(logging.NOTSET)
        yield
    except (RuntimeError, MemoryError, TypeError, ValueError, AttributeError) as error:
        # gin says so at the call, by the only exception type it has for it.
        if "Required bindings" in str(error):
            raise ConfigError(_required(str(error))) from error
        if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
            raise ConfigError(f"there is not enough memory for this configuration: {lines_of(error)[0]}") from error
        # gin adds to an error which configurables it passed through. The first was given what it cannot use; `model`,
        # which checks its own values, is the whole of training, and what goes wrong in it is none of the user's doing.
        called = re.search(r"In call to configurable '([^']+)'", str(error))
        if called and called.group(1) != "model" and not isinstance(error, RuntimeError):
            raise ConfigError(f"a binding of {called.group(1)!r} does not fit: {lines_of(error)[0]}") from error
        raise
    finally:
        gin.clear_config()


def bound_parameters(name: str) -> dict[str, Any]:
    """What gin would pass to the configurable of this name; recorded in the operative configuration as if it had been.

    For code that does the work of a configurable in its stead, and is to be set by the same bindings. Scopes are not
    looked at.
    """
    selector = gin_config._REGISTRY.get_match(name).selector
    parameters = gin_config._CONFIG.get(("", selector), {})
    gin_config._OPERATIVE_CONFIG.setdefault(("", selector), {}).update(parameters)
    # Copying is how gin itself puts macros' values and references' functions in their places.
    return copy.deepcopy(parameters)


def operative_bindings() -> dict[str, str]:
    """What has been configured so far, by gin or by a default: names such as "vae/AdamOptimizer.beta1" to values.

    The values are as a gin file would spell them.
    """
    return {
        f"{scope + '/' if scope else ''}{selector.rsplit('.', 1)[-1]}.{parameter}": repr(value)
        for (scope, selector), parameters in gin_config._OPERATIVE_CONFIG.items()
        for parameter, value in parameters.items()
    }


def bound_value(name: str) -> Any:
    """What a binding such as "encoder.num_latent" sets, or None where nothing does."""
    try:
        return gin.query_parameter(name)
    except ValueError:
        return None


def _parse(files: Sequence[str], bindings: Sequence[str], skip_unknown: Sequence[str]) -> None:
    for file in files:
        path = _find(file)
        _set_search_path([path.parent, GIN_FOLDER])
        try:
            parsed = gin.parse_config_file(str(path), skip_unknown=list(skip_unknown))
            _check_imports(parsed.imports, parsed.includes)
        except _GIN_ERRORS as error:
            raise ConfigError(f"{file}: {_explain(error)}") from error
    for binding in bindings:
        try:
            includes, imports = gin.parse_config(binding, skip_unknown=list(skip_unknown))
            _check_imports(imports, includes)
        except _GIN_ERRORS as error:
            raise ConfigError(f"--gin_bindings {binding!r}: {_explain(error)}") from error
    _check_references()


def _check_imports(modules: Iterable[str], includes: Iterable[Any]) -> None:
    """Raises ImportError for a module that is not there, which gin passes over if it may pass over anything."""
    for module in modules:
        importlib.import_module(module)
    for included in includes:
        _check_imports(included.imports, included.includes)


def _set_search_path(folders: Iterable[Path]) -> None:
    # gin only ever appends to its list of places to look in, which would let one file's folder serve the next.
    gin_config._LOCATION_PREFIXES[:] = [str(folder) for folder in folders]


def _find(file: str) -> Path:
    for candidate in (Path(file), GIN_FOLDER / file):
        if os.path.isfile(candidate):
            return candidate.resolve()
    # Spelled as they would be given: in the folder that was, or relative to the gin folder.
    folder = Path(file).parent
    known = [str(path) for path in folder.glob("*.gin")] if os.path.isdir(folder) else []
    known += [str(path.relative_to(GIN_FOLDER)) for path in GIN_FOLDER.rglob("*.gin")]
    raise ConfigError(f"no gin file {file!r}{did_you_mean(file, known)}")


def _names() -> list[str]:
    return [selector.rsplit(".", 1)[-1] for selector, _ in gin_config._REGISTRY.items()] + list(
        EVALUATION_CONFIGURABLES
    )


def _explain(error: Exception) -> str:
    """One line for what gin reports in several, with the nearest known name where it knows none."""
    if isinstance(error, RecursionError):
        return "it includes itself"
    message = str(error)
    if isinstance(error, tokenize.TokenError) or message.startswith("malformed node"):
        return "its value is not a Python literal; text needs quotes, brackets need closing"
    unknown = re.search(r"No configurable matching(?: reference)? '@?([^']+?)(?:\(\))?'", message)
    if unknown:
        name = unknown.group(1)
        return f"there is nothing called {name!r} to configure{did_you_mean(name.rsplit('/', 1)[-1], _names())}"
    parameter = re.search(r"Configurable '([^']+)' doesn't have a parameter named '([^']+)'", message)
    if parameter:
        configurable, name = parameter.groups()
        return f"{configurable!r} has no parameter {name!r}{did_you_mean(name, _parameters(configurable))}"
    return lines_of(error)[0]


def _parameters(selector: str) -> list[str]:
    return list(inspect.signature(gin_config._REGISTRY.get_match(selector).fn_or_cls).parameters)


def _check_references() -> None:
    """gin leaves an unknown function behind `@name` to the call that needs it; say so before anything is started.

    `gin.finalize` would look for them, but gin-config 0.4.0's is written for Python 3.9 and older.
    """
    for _, parameters in gin_config._CONFIG.items():
        for value in _flattened(list(parameters.values())):
            if isinstance(value, gin_config._UnknownConfigurableReference):
                hint = did_you_mean(value.selector, _names())
                raise ConfigError(f"there is nothing called '@{value.selector}'{hint}")
            if isinstance(value, gin_config.ConfigurableReference) and value.selector == "gin.macro":
                name = "/".join(value.scopes)
                if (name, "gin.macro") not in gin_config._CONFIG:
                    raise ConfigError(f"the macro %{name} is used and never set; write {name} = ... in a gin file")


def _flattened(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _flattened(item)
    else:
        yield value


def _required(message: str) -> str:
    match = re.search(r"Required bindings for `([^`]+)` not provided in config: \[(.*?)\]", message)
    if not match:
        return message.splitlines()[0]
    names = ", ".join(f"{match.group(1)}.{name.strip(chr(39))}" for name in match.group(2).split(", "))
    return f"the gin configuration does not set {names}; bind it in a gin file or with --gin_bindings"
