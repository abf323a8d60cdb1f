"""Check the code of a TorchScript archive before PyTorch compiles it, and refuse everything but computations.

A TorchScript file needs no unpickling. But its code may call operators that write and read files, and some of it runs
while the file is loaded: `__setstate__`, the defaults of arguments, the constants of classes. This check accepts the
part of Python that PyTorch's exporter (torch/csrc/jit/serialization/python_print.cpp) writes. Such code may call the
operators of `is_allowed`, and functions and methods that the archive defines.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from disentanglement_challenge.export.operators import is_allowed

# PyTorch's lexer (torch/csrc/jit/frontend/lexer.h) and Python's differ in comments, quotes, string prefixes, line ends
# and unusual numbers, so one could see code where the other sees a string. The exporter writes none of these, but only
# printable ASCII, strings in double quotes on one line, and plain numbers. On these, both lexers agree.
_CHARACTERS = re.compile(r"[\n -~]*")
_TEXT = re.compile(r'"(?:[^"\\\n]|\\[^\n])*"')
_ODD = re.compile(r"""['\\#;@`$?!]|\w"|"\w""")
_NUMBER = re.compile(r"(?<![\w.])\.?\d(?:e[+-]|[\w.])*")
_PLAIN_NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?j?")

_STATEMENTS = (
    ast.AnnAssign, ast.Assign, ast.Expr, ast.For, ast.If, ast.Pass, ast.Return, ast.While, ast.With, ast.withitem,
)  # fmt: skip
_EXPRESSIONS = (
    ast.Attribute, ast.Call, ast.Constant, ast.Dict, ast.List, ast.Name, ast.Subscript, ast.Tuple, ast.UnaryOp,
    ast.Load, ast.Store, ast.USub, ast.keyword,
)  # fmt: skip
_TYPES = (ast.Attribute, ast.Constant, ast.List, ast.Load, ast.Name, ast.Subscript, ast.Tuple)
_LITERALS = (ast.Constant, ast.Dict, ast.List, ast.Load, ast.Tuple, ast.UnaryOp, ast.USub)

# Names with a special meaning for the importer and the compiler: roots of names, and functions that convert a value or
# declare its type.
_ROOTS = {"CONSTANTS", "__torch__", "ops", "torch"}
_FORMS = {
    "annotate", "bool", "complex", "float", "getattr", "int", "isinstance", "range", "str", "unchecked_cast",
    "uninitialized",
}  # fmt: skip
# PyTorch's C++ classes; PyTorch uses them for these names, even if the archive defines the names otherwise.
CUSTOM_CLASSES = "__torch__.torch.classes."
# The exporter's names of functions that are called more than once: `_0 = __torch__.models.normalise`.
_ALIAS = re.compile(r"_\d+")
_LITERAL_NAME = re.compile(r"inf|nan|CONSTANTS(\.c\d+)?")
_CONSTANT = re.compile(r"CONSTANTS\.c\d+")
# Methods that are called without a call in the code: by PyTorch, by `with`, or by an operator.
_CALLED_BY_ITSELF = re.compile(r"forward|__\w+__")
# Until PyTorch 2.0, batch normalisation counted its training batches with `self.num_batches_tracked = ...`.
_COUNTER = "num_batches_tracked"

# The class behind `with torch.no_grad():` in a forward. It restores the caller's gradient mode.
_NO_GRAD = "__torch__.torch.autograd.grad_mode.no_grad"
_NO_GRAD_CODE = """
class no_grad:
  prev : bool
  def __enter__(self: __torch__.torch.autograd.grad_mode.no_grad) -> NoneType:
    self.prev = torch.is_grad_enabled()
    torch.set_grad_enabled(False)
    return None
  def __exit__(self: __torch__.torch.autograd.grad_mode.no_grad,
    exc_type: Any,
    exc_value: Any,
    traceback: Any) -> NoneType:
    prev = self.prev
    torch.set_grad_enabled(prev)
    return None
  def __init__(self: __torch__.torch.autograd.grad_mode.no_grad) -> NoneType:
    self.prev = False
    return None
"""
_NO_GRAD_TREE = ast.dump(ast.parse(_NO_GRAD_CODE).body[0])


class Refused(ValueError):
    """Code is refused; the message says what it does, such as "calls torch.save"."""


def check_code(sources: Mapping[str, bytes]) -> None:
    """Raise Refused if the code does more than compute with tensors.

    Args:
        sources: all code of the archive, by its path below the folder code/, such as "__torch__/models.py".
    """
    modules = {path.removesuffix(".py").replace("/", "."): _parsed(path, source) for path, source in sources.items()}
    definitions = {f"{module}.{node.name}" for module, nodes in modules.items() for node in nodes}
    for name in definitions:
        if f"{name}.".startswith(CUSTOM_CLASSES):
            raise Refused(f"defines {name}, the name of one of PyTorch's classes")
    nodes = [node for nodes in modules.values() for node in nodes if not _is_no_grad(node)]
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    setters = list(functions)
    called = {function.name for function in functions}
    for node in nodes:
        if isinstance(node, ast.ClassDef):
            methods = _methods(node)
            functions += methods
            # Only calls create objects that are not modules, so their __init__ may set attributes.
            setters += [method for method in methods if node.bases or method.name != "__init__"]
            called |= _hooks(node)
    names = {function.name for function in functions} | {"__init__"}
    for function in functions:
        called |= _check_function(function, definitions, names)
    for function in setters:
        # A method that sets attributes is accepted as long as nothing calls it.
        is_called = function.name in called or _CALLED_BY_ITSELF.fullmatch(function.name)
        for attribute in _attributes_set(function) if is_called else ():
            if attribute != _COUNTER:
                raise Refused(f"sets the attribute {attribute!r} in {function.name}")
    if "__setstate__" in names:
        raise Refused("defines __setstate__, which runs while the file is loaded")


def check_graphs(functions: Iterable[Any]) -> None:
    """Raise Refused if the graphs that PyTorch compiled contain an operator that is not allowed.

    This second check before anything runs does not depend on the text of the code, which `check_code` has accepted.

    Args:
        functions: all functions of the archive's compilation unit.
    """
    for function in functions:
        allowed = {"aten::set_grad_enabled"} if function.qualified_name.startswith(f"{_NO_GRAD}.") else set()
        for node in graph_nodes(function.graph):
            is_custom = node.kind() == "prim::CreateObject" and node.output().type().str().startswith(CUSTOM_CLASSES)
            if is_custom or (not is_allowed(node.kind()) and node.kind() not in allowed):
                raise Refused(f"calls {node.kind()}")


def graph_nodes(block: Any) -> Iterator[Any]:
    """Yield the nodes of a graph or of one of its blocks, including those inside its branches and loops."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from graph_nodes(inner)


def _parsed(path: str, content: bytes) -> list[ast.ClassDef | ast.FunctionDef]:
    """Return the functions and classes of one file."""
    source = content.decode("latin-1")
    bare = _TEXT.sub('""', source)
    # Each string leaves a pair of quotes. A third quote is an adjacent string, or one that never ends.
    is_plain = _CHARACTERS.fullmatch(source) and not _ODD.search(bare) and '"' not in bare.replace('""', " ")
    if not is_plain or '"""' in bare or not all(map(_PLAIN_NUMBER.fullmatch, _NUMBER.findall(bare))):
        raise Refused(f"has code in {path} that PyTorch's exporter does not write")
    try:
        module = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Refused(f"has code in {path} that cannot be parsed") from error
    nodes = [node for node in module.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    if len(nodes) != len(module.body):
        raise Refused(f"has a statement in {path} outside of functions and classes")
    return nodes


def _is_no_grad(node: ast.ClassDef | ast.FunctionDef) -> bool:
    return node.name == "no_grad" and ast.dump(node) == _NO_GRAD_TREE


def _methods(node: ast.ClassDef) -> list[ast.FunctionDef]:
    """Return the methods of a class, after checking its other statements: attributes, constants, lists of names."""
    methods = []
    if node.decorator_list or node.keywords:
        raise Refused(f"has a decorator or a keyword in the class {node.name}")
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef):
            methods.append(statement)
        elif isinstance(statement, ast.AnnAssign):
            _check_type(statement.annotation)
            if statement.value is not None:
                _check_literal(statement.value)
        elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Subscript):
            _check_type(statement.value)  # __annotations__["0"] = Tensor
        elif isinstance(statement, ast.Assign):
            _check_literal(statement.value)
        elif not isinstance(statement, ast.Pass):
            raise Refused(f"has a {type(statement).__name__} in the class {node.name}")
    return methods


def _hooks(node: ast.ClassDef) -> set[str]:
    """Return the methods that are called before or after others."""
    lists = [statement.value for statement in node.body if isinstance(statement, ast.Assign)]
    return {str(part.value) for value in lists for part in ast.walk(value) if isinstance(part, ast.Constant)}


def _check_type(node: ast.expr) -> None:
    for part in ast.walk(node):
        if not isinstance(part, _TYPES):
            raise Refused(f"has {ast.unparse(node)!r:.100} as a type")


def _check_literal(node: ast.expr) -> None:
    """Raise Refused if the expression is not a literal; PyTorch evaluates defaults and constants while loading."""
    for part in ast.walk(node):
        is_named = isinstance(part, ast.Attribute | ast.Name) and _LITERAL_NAME.fullmatch(_name(part))
        if not isinstance(part, _LITERALS) and not is_named:
            raise Refused(f"computes {ast.unparse(part)!r:.100} while the file is loaded")


def _check_function(function: ast.FunctionDef, definitions: set[str], methods: set[str]) -> set[str]:
    """Check everything in a function, and return the names of the methods that it calls."""
    arguments = function.args
    parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    if function.decorator_list or arguments.vararg or arguments.kwarg:
        raise Refused(f"has a decorator or a starred argument in {function.name}")
    for default in (*arguments.defaults, *arguments.kw_defaults):
        if default is not None:
            _check_literal(default)
    for annotation in (function.returns, *(parameter.annotation for parameter in parameters)):
        if annotation is not None:
            _check_type(annotation)

    body = [node for statement in function.body for node in ast.walk(statement)]
    bindings = Counter([parameter.arg for parameter in parameters])
    bindings.update(node.id for node in body if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    for name in bindings:
        if name in _ROOTS | _FORMS:
            raise Refused(f"redefines {name} in {function.name}")
    aliases: Counter[str] = Counter()  # `_0 = __torch__.torch.nn.functional.softmax`
    called: set[str] = set()
    for node in body:
        if not isinstance(node, (*_STATEMENTS, *_EXPRESSIONS)):
            raise Refused(f"has a {type(node).__name__} in {function.name}, which PyTorch's exporter does not write")
        if isinstance(node, ast.Assign):
            (target,) = node.targets if len(node.targets) == 1 else [None]
            if isinstance(target, ast.Name) and _ALIAS.fullmatch(target.id) and _name(node.value) in definitions:
                aliases[target.id] += 1
    functions = {name for name, count in aliases.items() if count == bindings[name]}
    inner = {node.value for node in body if isinstance(node, ast.Attribute)}
    for node in body:
        if isinstance(node, ast.Call):
            called |= _called_method(node.func, functions, definitions, methods)
            inner.add(node.func)
    for node in body:
        # An operator or a namespace that is not called here could be called by another name later.
        if isinstance(node, ast.Attribute | ast.Name) and node not in inner:
            name = _name(node)
            if name.partition(".")[0] in _ROOTS and name not in definitions and not _CONSTANT.fullmatch(name):
                raise Refused(f"names {name} without calling it")
    return called


def _called_method(function: ast.expr, functions: set[str], definitions: set[str], methods: set[str]) -> set[str]:
    """Return the called method's name, if it is a method; raise Refused for anything not allowed or defined here."""
    name = _name(function)
    root, _, rest = name.partition(".")
    if root in _ROOTS:
        operator = f"aten::{rest}" if root == "torch" else rest.replace(".", "::", 1) if root == "ops" else ""
        if name.removesuffix(".__new__") not in definitions and not is_allowed(operator):
            raise Refused(f"calls {name}")
        return set()
    if isinstance(function, ast.Name):
        if name not in _FORMS | functions:
            raise Refused(f"calls {name}")
        return set()
    if not isinstance(function, ast.Attribute):
        raise Refused(f"calls {ast.unparse(function)!r:.100}")
    # On a tensor, x.save(...) is torch.save(x, ...), even if the archive has a method of this name.
    method = function.attr
    if method not in methods or (not is_allowed(f"aten::{method}") and _is_operator(f"aten::{method}")):
        raise Refused(f"calls {method}")
    return {method}


def _is_operator(name: str) -> bool:
    return bool(torch._C._jit_get_schemas_for_operator(name))


def _attributes_set(function: ast.FunctionDef) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def _name(node: ast.expr) -> str:
    """Return the text of `a.b.c`; "" if it is not an attribute of a name."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(names)]) if isinstance(node, ast.Name) else ""
