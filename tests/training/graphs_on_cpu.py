"""A stand-in for torch.cuda's graphs that records and replays operations on CPU tensors.

It keeps CUDA's rules: what is recorded does not run, so that tensors and generators are as before; a replay computes
from what then lies in the same tensors, into the same tensors; and nobody may read a value while a graph is recorded.
It cannot show that a GPU's kernels can be recorded, nor how fast they are.
"""

import contextlib

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

READS = ("_local_scalar_dense", "aten::item", "aten::nonzero", "aten::is_nonzero", "aten::equal")


def tensors_of(arguments):
    return [leaf for leaf in pytree.tree_leaves(arguments) if isinstance(leaf, torch.Tensor)]


def written_by(operation, arguments, named):
    """The tensors that an operation changes, by its schema."""
    changed = []
    for index, argument in enumerate(operation._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = arguments[index] if index < len(arguments) else named.get(argument.name)
            changed += tensors_of(given)
    return changed


class Recorder(TorchDispatchMode):
    """Every operation with its very tensors, and the content that tensors had before an operation changed them."""

    def __init__(self):
        super().__init__()
        self.operations = []
        self._before = {}

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        named = named or {}
        if str(operation._schema.name).split("::")[-1] in {name.split("::")[-1] for name in READS}:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        for tensor in written_by(operation, arguments, named):
            storage = tensor.untyped_storage()
            self._before.setdefault(storage.data_ptr(), (storage, storage.clone()))
        output = operation(*arguments, **named)
        self.operations.append((operation, arguments, named, output))
        return output

    def take_back(self):
        for storage, content in self._before.values():
            storage.copy_(content)


class Graph:
    """As torch.cuda.CUDAGraph."""

    made: list = []  # noqa: RUF012 (install gives each test its own)

    def __init__(self):
        self.generators = []
        self.operations = []
        self.replays = 0
        Graph.made.append(self)

    def register_generator_state(self, generator):
        self.generators.append(generator)

    def pool(self):
        return id(self)

    def replay(self):
        assert self.operations, "nothing was recorded"
        self.replays += 1
        with torch.no_grad():
            for operation, arguments, named, output in self.operations:
                for kept, new in zip(tensors_of(output), tensors_of(operation(*arguments, **named)), strict=True):
                    if kept is not new and kept.data_ptr() != new.data_ptr():
                        kept.data.copy_(new)


@contextlib.contextmanager
def record(graph, pool=None):
    """As torch.cuda.graph."""
    before = [(generator, generator.get_state()) for generator in graph.generators]
    with Recorder() as recorder:
        yield
    recorder.take_back()
    for generator, state in before:
        generator.set_state(state)
    graph.operations = recorder.operations


class Stream:
    made = 0

    def __init__(self):
        Stream.made += 1

    def wait_stream(self, other):
        pass


def install(monkeypatch):
    """Has torch.cuda's graphs and streams be these, and counts what is made from here on."""
    monkeypatch.setattr(Graph, "made", [])
    monkeypatch.setattr(Stream, "made", 0)
    main = Stream()
    Stream.made = 0
    for name, stand_in in {
        "Stream": Stream,
        "current_stream": lambda *_: main,
        "stream": lambda stream: contextlib.nullcontext(),
        "CUDAGraph": Graph,
        "graph": record,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
