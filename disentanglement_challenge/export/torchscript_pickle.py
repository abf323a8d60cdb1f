"""Check the two pickles of a TorchScript archive, constants and module, before PyTorch's C++ unpickler reads them.

That unpickler runs no code by itself. But it creates PyTorch's C++ classes by name, and does not check a tensor's
extent: if the file is shorter than the pickle says, the model could read other memory of the process.
"""

import pickletools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from disentanglement_challenge.export.torchscript_code import CUSTOM_CLASSES, Refused

# Item sizes by the format's names of storages.
_ITEM_BYTES = {
    "torch BFloat16Storage": 2, "torch BoolStorage": 1, "torch ByteStorage": 1, "torch CharStorage": 1,
    "torch ComplexDoubleStorage": 16, "torch ComplexFloatStorage": 8, "torch DoubleStorage": 8,
    "torch FloatStorage": 4, "torch HalfStorage": 2, "torch IntStorage": 4, "torch LongStorage": 8,
    "torch ShortStorage": 2,
}  # fmt: skip
# PyTorch's unpickler and its type parser call themselves for each level, and would exhaust the stack of the process.
_DEEPEST, _DEEPEST_TYPE = 1000, 100
_TENSOR = "torch._utils _rebuild_tensor_v2"
_TYPE_TAG = "torch.jit._pickle restore_type_tag"
_GLOBALS = {
    *_ITEM_BYTES, _TENSOR, "builtins complex", "collections OrderedDict", "torch device",
    "torch.jit._pickle build_boollist", "torch.jit._pickle build_doublelist", "torch.jit._pickle build_intlist",
    "torch.jit._pickle build_tensorlist", _TYPE_TAG,
}  # fmt: skip


class _Global(NamedTuple):
    name: str


class _Storage(NamedTuple):
    num_items: int


@dataclass
class _Value:
    """A value on the unpickler's stack, as far as it is tracked, with what it contains.

    `depth` is the number of values that lie within each other in it. A list or dict is open until it is put into
    another value; only then all that it contains is known.
    """

    content: Any
    depth: int = 0
    is_open: bool = False


def check_pickle(content: bytes, folder: str, num_bytes: Mapping[str, int]) -> None:
    """Raise Refused if a pickle has more than plain values, tensors within their files, and the archive's classes.

    Nothing is unpickled; values are only tracked as far as needed to check tensors.

    Args:
        content: the pickle.
        folder: the folder of its tensors, "data" or "constants".
        num_bytes: the length of each of the archive's entries.
    """
    try:
        _follow(content, folder, num_bytes)
    except Refused:
        raise
    except Exception as error:  # pickletools has many types of error, and the stack may be empty
        raise Refused(f"has no pickle of PyTorch in {folder}.pkl") from error


def _follow(content: bytes, folder: str, num_bytes: Mapping[str, int]) -> None:
    argument: Any
    stack: list[_Value] = []
    marks: list[int] = []
    memo: list[_Value] = []

    def push(value: Any, parts: Sequence[_Value] = (), is_open: bool = False) -> None:
        stack.append(_Value(value, 0, is_open))
        contain(parts)

    def contain(parts: Sequence[_Value]) -> None:
        """Note that the value on top of the stack contains these."""
        stack[-1].depth = max([stack[-1].depth, *(part.depth + 1 for part in parts)])
        if stack[-1].depth > _DEEPEST:
            raise Refused(f"has more than {_DEEPEST} values within each other in {folder}.pkl")

    def pop(count: int) -> list[_Value]:
        if count > len(stack):
            raise IndexError(count)
        taken = stack[len(stack) - count :]
        del stack[len(stack) - count :]
        for value in taken:
            value.is_open = False
        return taken

    def fill(count: int) -> None:
        parts = pop(count)
        if not stack[-1].is_open:
            raise Refused(f"changes a value that is complete in {folder}.pkl")
        contain(parts)

    def contents(values: Sequence[_Value]) -> tuple[Any, ...]:
        return tuple(value.content for value in values)

    # The opcodes that PyTorch's pickler writes (torch/csrc/jit/serialization/pickler.cpp).
    for opcode, argument, _ in pickletools.genops(content):
        match opcode.name:
            case "PROTO" | "STOP":
                pass
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINUNICODE":
                push(argument)
            case "BINFLOAT" | "NONE" | "NEWTRUE" | "NEWFALSE":
                push(None)
            case "EMPTY_DICT" | "EMPTY_LIST":
                push(None, is_open=True)
            case "EMPTY_TUPLE":
                push(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                parts = pop(int(opcode.name[-1]))
                push(contents(parts), parts)
            case "MARK":
                marks.append(len(stack))
            case "TUPLE":
                parts = pop(len(stack) - marks.pop())
                push(contents(parts), parts)
            case "APPENDS" | "SETITEMS":
                fill(len(stack) - marks.pop())
            case "APPEND":
                fill(1)
            case "SETITEM":
                fill(2)
            case "BINPUT" | "LONG_BINPUT":
                if argument != len(memo):  # PyTorch's unpickler makes room for all numbers below
                    raise Refused(f"does not count what it refers to in {folder}.pkl")
                memo.append(stack[-1])
            case "BINGET" | "LONG_BINGET":
                if memo[argument].is_open:
                    raise Refused(f"refers to a value that is not complete in {folder}.pkl")
                stack.append(memo[argument])
            case "GLOBAL":
                push(_global(argument, folder))
            case "NEWOBJ":
                pop(1)
            case "BINPERSID":
                push(_storage(pop(1)[0].content, folder, num_bytes))
            case "BUILD" | "REDUCE":
                parts = pop(2)
                function, value = contents(parts)
                # PyTorch's stack holds a number for a name, which a pickle could also write directly.
                if not isinstance(function, _Global):
                    raise Refused(f"calls a number in {folder}.pkl")
                if function.name == _TENSOR:
                    _check_tensor(value, folder)
                if function.name == _TYPE_TAG and str(value[1]).count("[") > _DEEPEST_TYPE:
                    raise Refused(f"has a type of more than {_DEEPEST_TYPE} types within each other in {folder}.pkl")
                push(None, parts)
            case _:
                raise Refused(f"has the opcode {opcode.name} in {folder}.pkl")


def _global(name: str, folder: str) -> _Global:
    if name not in _GLOBALS:
        qualified = name.replace(" ", ".")
        # Constants are tensors and strings; an object among them would be created first.
        is_object = folder == "data" and qualified.startswith("__torch__.")
        if not is_object or qualified.startswith(CUSTOM_CLASSES):
            raise Refused(f"names {qualified:.100} in {folder}.pkl")
    return _Global(name)


def _storage(identifier: Any, folder: str, num_bytes: Mapping[str, int]) -> _Storage:
    word, kind, key, _, num_items = identifier
    needed = num_items * _ITEM_BYTES[kind.name]
    if word != "storage" or num_items < 0 or (needed and needed > num_bytes.get(f"{folder}/{key}", -1)):
        raise Refused(f"has a tensor that is longer than its file {folder}/{key}")
    return _Storage(num_items)


def _check_tensor(arguments: Any, folder: str) -> None:
    storage, offset, sizes, strides = arguments[:4]
    if not isinstance(storage, _Storage) or len(sizes) != len(strides):
        raise Refused(f"has a tensor without a storage in {folder}.pkl")
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if min((offset, *sizes, *strides)) < 0 or (0 not in sizes and last >= storage.num_items):
        raise Refused(f"has a tensor that exceeds its storage in {folder}.pkl")
