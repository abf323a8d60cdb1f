"""Untrusted models cannot act: each attack here works with PyTorch's own loader, and is refused with its name.

Every attack writes, prints, reads a file into a tensor, or sets a state of the process, on load or on the first call.
"""

import os
import random
import re
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from encoders import SCRIPTED
from messages import facts
from torch import Tensor, nn

from disentanglement_challenge.errors import RepresentationError
from disentanglement_challenge.export import torchscript
from disentanglement_challenge.export.model_file import export_model, import_model
from disentanglement_challenge.export.operators import is_allowed
from disentanglement_challenge.export.representor import make_representor
from disentanglement_challenge.export.sandbox import Sandbox
from disentanglement_challenge.export.torchscript_code import Refused, check_code, check_graphs
from disentanglement_challenge.export.torchscript_pickle import check_pickle
from disentanglement_challenge.models import MeanEncoder
from disentanglement_challenge.models.encoders import conv_encoder, fc_encoder, residual_encoder
from disentanglement_challenge.models.layers import ACTIVATIONS

ROOT = Path(__file__).resolve().parents[2]
IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Inner(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


class Innocent(nn.Module):
    """A harmless module to insert attacks into: a sub-module, a second method, a default."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()
        self.path = "made"

    def other(self, x: Tensor) -> Tensor:
        return x + 1

    def forward(self, images: Tensor, k: int = 3) -> Tensor:
        return self.other(self.inner(images.flatten(1)[:, :4])) * k


def scripted(module, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(module.eval()), str(path))
    return path


def plain(path):
    """Load a model with PyTorch's own loader."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.load(str(path))


def entries_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def written(path, entries):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def with_code(path, *edits, module=Innocent):
    """Write the archive with some text of its code replaced."""
    entries = entries_of(scripted(module(), path))
    for old, new in edits:
        assert any(old.encode() in content for name, content in entries.items() if name.endswith(".py")), old
        for name in entries:
            if name.endswith(".py"):
                entries[name] = entries[name].replace(old.encode(), new.encode())
    return written(path, entries)


class Saves(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        torch.save(x, "made")
        return x.flatten(1)


class SavesWhileLoading(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = SavesInASubmodule()

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


class SavesInASubmodule(nn.Module):
    """A module whose method is called only by `__setstate__`."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.ones(2)

    def keep(self, x: Tensor) -> Tensor:
        torch.save(x, "made")
        return x

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, bool]:
        return self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool]) -> None:
        self.training = state[1]
        self.weight = self.keep(state[0])

    def forward(self, x: Tensor) -> Tensor:
        return x


@torch.jit.script
def saves(x: Tensor) -> Tensor:
    torch.save(x, "made")
    return x


class SavesInAFunction(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return saves(images).flatten(1)


@torch.jit.script
class Keeper:
    def __init__(self, x: Tensor):
        self.x = x

    def __add__(self, other: "Keeper") -> Tensor:
        torch.save(self.x, "made")
        return self.x


class SavesInAClass(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return (Keeper(images) + Keeper(images)).flatten(1)


@torch.jit.interface
class Step(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        pass


class SavesBehindAnInterface(nn.Module):
    step: Step

    def __init__(self) -> None:
        super().__init__()
        self.step = Saves()

    def forward(self, images: Tensor) -> Tensor:
        return self.step.forward(images)


class SavesInAHook(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()
        self.inner.register_forward_pre_hook(saves_before)

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images).flatten(1)


def saves_before(self, inputs: tuple[Tensor]) -> None:
    torch.save(inputs[0], "made")


class MakesAFile(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :4] + torch.from_file("made", True, 4)


class SavesInAFork(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.jit.wait(torch.jit.fork(saves, images)).flatten(1)


LOADED = "loaded"  # the attack acts on load; otherwise on a call
FORWARD = "    inner = self.inner\n"
WRITTEN_BY_PYTORCH = [
    (Saves, "calls torch.save"),
    (SavesWhileLoading, "calls torch.save"),
    (SavesInAFunction, "calls torch.save"),
    (SavesInAClass, "calls torch.save"),
    (SavesBehindAnInterface, "calls torch.save"),
    (SavesInAHook, "calls torch.save"),
    (SavesInAFork, "calls torch.save"),
    (MakesAFile, "calls torch.from_file"),
]
WRITTEN_BY_HAND = {
    "another namespace": ("calls ops.aten.save", [(FORWARD, f'{FORWARD}    ops.aten.save(images, "made")\n')]),
    "an operator by another name": ("calls _9", [(FORWARD, f'{FORWARD}    _9 = torch.save\n    _9(images, "made")\n')]),
    "a namespace by another name": (
        "calls save",
        [(FORWARD, f'{FORWARD}    _9 = torch\n    (_9).save(images, "made")\n')],
    ),
    "a namespace by another name, and a method of the operator's": (
        "calls save",
        [
            (FORWARD, f'{FORWARD}    _9 = ops.aten\n    (_9).save(images, "made")\n'),
            ("def other(", "def save("),
            ("(self).other", "(self).save"),
        ],
    ),
    "a default": (
        "computes \"int(torch.from_file('made', True, 4)[0])\" while the file is loaded",
        [("k: int=3", 'k: int=int(torch.from_file("made", True, 4)[0])')],
    ),
    "a constant": (
        "computes \"torch.from_file('made', True, 4)\" while the file is loaded",
        [("  training : bool\n", '  training : bool\n  x : Final[Tensor] = torch.from_file("made", True, 4)\n')],
    ),
    "a form by its own name": (
        "redefines int in forward",
        [(FORWARD, f'{FORWARD}    int = torch.save\n    int(images, "made")\n')],
    ),
    "a list's comprehension": (
        "has a ListComp",
        [(FORWARD, f'{FORWARD}    _9 = [torch.save(images, "made") for i in [1]]\n')],
    ),
    "a conditional": ("has a IfExp", [(FORWARD, f'{FORWARD}    _9 = torch.save(images, "made") if True else None\n')]),
}


def acts(path, folder):
    """Return whether the attack works with PyTorch's own loader; remove its traces."""
    made = folder / "made"
    assert not made.exists()
    model = plain(path)
    if not made.exists():
        model(IMAGES.clone())
    did = made.exists()
    made.unlink(missing_ok=True)
    return did


def refusal(path, folder):
    with pytest.raises(RepresentationError) as raised:
        import_model(path)
    assert not (folder / "made").exists()
    message = str(raised.value)
    assert "\n" not in message
    assert message.startswith(f"{path} ")
    assert "run.py --sandbox" in message
    return message


@pytest.mark.parametrize(("model", "message"), WRITTEN_BY_PYTORCH)
def test_a_model_that_writes_a_file_is_refused(tmp_path, monkeypatch, model, message):
    monkeypatch.chdir(tmp_path)
    path = scripted(model(), tmp_path / "model.pt")
    (tmp_path / "made").unlink(missing_ok=True)  # scripting calls __setstate__ too
    assert acts(path, tmp_path)
    assert message in refusal(path, tmp_path)


@pytest.mark.parametrize("kind", WRITTEN_BY_HAND)
def test_code_that_no_exporter_writes_is_refused(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    message, edits = WRITTEN_BY_HAND[kind]
    path = with_code(tmp_path / "model.pt", *edits)
    assert acts(path, tmp_path)
    assert message in refusal(path, tmp_path)


def test_a_file_is_not_read_into_a_representation(tmp_path):
    """`from_file` reads any file of the user; published codes would reveal it."""
    secret = tmp_path / "secret"
    torch.full((4,), 42.0).numpy().tofile(secret)
    path = with_code(
        tmp_path / "model.pt",
        (FORWARD, f'{FORWARD}    return torch.view(torch.from_file("{secret}", False, 4), [1, 4])\n'),
    )
    assert plain(path)(IMAGES).tolist() == [[42.0] * 4]
    assert "calls torch.from_file" in refusal(path, tmp_path)


METHODS = {
    "a method": ("calls resize_", "(images).resize_([1])"),
    "one by another name": ("calls _9", "_9 = images.resize_\n    _8 = _9([1])"),
    "one by a form's name": ("redefines int in forward", "int = images.resize_\n    _8 = int([1])"),
    "one by a text": ("calls \"getattr(images, 'resize_')\"", 'getattr(images, "resize_")([1])'),
    "one that the archive has too": ("calls resize_", "(images).resize_([1])"),
}


@pytest.mark.parametrize("kind", METHODS)
def test_a_method_of_a_tensor_is_an_operator(tmp_path, kind):
    message, code = METHODS[kind]
    edits = [("def other(", "def resize_("), ("(self).other", "(self).resize_")] if "archive" in kind else []
    path = with_code(
        tmp_path / "model.pt", (FORWARD, f"{FORWARD}    {code}\n    return torch.view(images, [1, 1])\n"), *edits
    )
    images = IMAGES.clone()
    plain(path)(images)
    assert images.shape == (1,)
    assert message in refusal(path, tmp_path)


def test_an_operator_of_another_namespace_by_the_name_of_a_method(tmp_path, capfd):
    """No operator on tensors has the method's name; the name alone would pass."""
    code = f"{FORWARD}    _9 = ops.prim\n    (_9).Print(images)\n"
    path = with_code(
        tmp_path / "model.pt", (FORWARD, code), ("def other(", "def Print("), ("(self).other", "(self).Print")
    )
    plain(path)(IMAGES)
    assert "CPUFloatType" in capfd.readouterr().out
    assert "names ops.prim without calling it" in refusal(path, tmp_path)


def test_a_model_prints_nothing(tmp_path, capfd):
    class Prints(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            print("I was here")
            return images.flatten(1)

    path = scripted(Prints(), tmp_path / "model.pt")
    plain(path)(IMAGES)
    assert capfd.readouterr().out == "I was here\n"
    assert "calls print" in refusal(path, tmp_path)
    assert capfd.readouterr().out == ""


def test_a_model_sets_no_seed(tmp_path):
    class Seeds(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            torch.manual_seed(5)
            return images.flatten(1)

    path = scripted(Seeds(), tmp_path / "model.pt")
    torch.manual_seed(0)
    plain(path)(IMAGES)
    assert torch.initial_seed() == 5
    torch.manual_seed(0)
    assert "calls torch.manual_seed" in refusal(path, tmp_path)
    assert torch.initial_seed() == 0


def test_a_model_sets_no_attribute_in_what_is_called(tmp_path):
    """The second image would get another representation than the first; `reset`, which is never called, is allowed."""

    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(1))

        def add(self) -> None:
            self.count = self.count + 1

        @torch.jit.export
        def reset(self) -> None:
            self.count = torch.zeros(1)

        def forward(self, images: Tensor) -> Tensor:
            self.add()
            return images.flatten(1) + self.count

    path = scripted(Counts(), tmp_path / "model.pt")
    model = plain(path)
    assert not torch.equal(model(IMAGES), model(IMAGES))
    assert "sets the attribute 'count' in add" in refusal(path, tmp_path)


class Steps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.steps = 1

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) * self.steps


def test_a_function_sets_no_attribute_of_a_module_that_it_is_given(tmp_path):
    """No exporter writes this, but PyTorch accepts it."""
    path = with_code(
        tmp_path / "model.pt",
        ("    steps = self.steps\n", "    __torch__.test_stranger.add(self)\n    steps = self.steps\n"),
        (
            "class Steps(Module):",
            "def add(m: __torch__.test_stranger.Steps) -> NoneType:\n  m.steps = torch.add(m.steps, 1)\n  return None\n"
            "class Steps(Module):",
        ),
        module=Steps,
    )
    model = plain(path)
    assert not torch.equal(model(IMAGES), model(IMAGES))
    assert "sets the attribute 'steps' in add" in refusal(path, tmp_path)


def test_the_counter_of_older_batch_normalisations_is_no_state(tmp_path):
    """PyTorch below 2.0 wrote `self.num_batches_tracked = ...` for training."""
    path = with_code(
        tmp_path / "model.pt",
        (
            "      _2 = torch.add_(num_batches_tracked, 1)\n",
            "      self.num_batches_tracked = torch.add(num_batches_tracked, 1)\n",
        ),
        module=lambda: nn.Sequential(nn.Conv2d(3, 2, 16), nn.BatchNorm2d(2), nn.Flatten()),
    )
    assert torch.equal(import_model(path)(IMAGES), plain(path)(IMAGES))


def test_no_class_of_pytorchs_own_is_made(tmp_path, monkeypatch):
    """The class is named in the code, under the archive's own name, or in its pickle."""
    profile = "__torch__.torch.classes.profiling._ScriptProfile"
    made = f"    _9 = {profile}.__new__({profile})\n    _8 = (_9).__init__()\n    (_9).enable()\n    (_9).disable()\n"
    path = with_code(tmp_path / "model.pt", (FORWARD, FORWARD + made))
    plain(path)(IMAGES)
    assert f"calls {profile}.__new__" in refusal(path, tmp_path)
    entries = entries_of(path)
    root = next(iter(entries)).partition("/")[0]
    entries[f"{root}/code/__torch__/torch/classes/profiling.py"] = (
        f"class _ScriptProfile:\n  def __init__(self: {profile}) -> NoneType:\n    return None\n"
        f"  def enable(self: {profile}) -> NoneType:\n    return None\n"
        f"  def disable(self: {profile}) -> NoneType:\n    return None\n"
    ).encode()
    written(path, entries)
    plain(path)(IMAGES)  # PyTorch uses its own class
    assert f"defines {profile}" in refusal(path, tmp_path)


def test_quantised_layers_are_refused_by_their_operators(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Flatten(), nn.Linear(768, 5)), {nn.Linear})
    path = scripted(model, tmp_path / "model.pt")
    assert plain(path)(IMAGES).shape == (4, 5)
    assert "calls ops.quantized.linear" in refusal(path, tmp_path)


@pytest.mark.parametrize("evil_is_first", [True, False])
def test_of_two_entries_of_one_name_none_is_taken(tmp_path, monkeypatch, evil_is_first):
    """Python's reader takes the last of them, PyTorch's another one."""
    monkeypatch.chdir(tmp_path)
    good, evil = (
        entries_of(with_code(tmp_path / "model.pt", *edits)) for edits in ((), WRITTEN_BY_HAND["a default"][1])
    )
    order = (evil, good) if evil_is_first else (good, evil)
    path = tmp_path / "model.pt"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")
        for name, content in good.items():
            for entries in order if name.endswith(".py") else (good,):
                archive.writestr(name, entries.get(name, content))
    with zipfile.ZipFile(path) as archive:
        (name,) = {name for name in archive.namelist() if name.endswith("__torch__/test_stranger.py")}
        is_evil_for_python = archive.read(name) == evil[name]
    assert is_evil_for_python != evil_is_first
    with pytest.raises(RepresentationError, match=facts("two entries", "'code/__torch__/")):
        import_model(path)
    assert not (tmp_path / "made").exists()


def test_pytorch_gets_what_was_read(tmp_path, monkeypatch):
    """The file is replaced by another one while it is checked."""
    monkeypatch.chdir(tmp_path)
    evil = with_code(tmp_path / "evil.pt", *WRITTEN_BY_HAND["a default"][1]).read_bytes()
    path = with_code(tmp_path / "model.pt")
    expected = plain(path)(IMAGES)
    read = torchscript.check_code

    def check(sources):
        read(sources)
        path.write_bytes(evil)

    monkeypatch.setattr(torchscript, "check_code", check)
    assert torch.equal(import_model(path)(IMAGES), expected)
    assert not (tmp_path / "made").exists()
    assert acts(path, tmp_path)


def test_a_mobile_file_is_read_like_any_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.ptl"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(Saves())._save_for_lite_interpreter(str(path))
    assert "bytecode.pkl" in " ".join(entries_of(path))
    assert acts(path, tmp_path)
    assert "calls torch.save" in refusal(path, tmp_path)


def test_a_state_that_is_set_while_loading_is_refused_whatever_sets_it(tmp_path):
    class Restores(SavesInASubmodule):
        def keep(self, x: Tensor) -> Tensor:
            return x

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)

    path = scripted(Restores(), tmp_path / "model.pt")
    assert plain(path)(IMAGES).shape == (4, 768)
    assert "sets the attribute 'training' in __setstate__" in refusal(path, tmp_path)
    entries = {name: content for name, content in entries_of(path).items() if name.endswith(".py")}
    (name,) = entries
    kept = [
        line
        for line in entries[name].decode().splitlines()
        if "self.training =" not in line and "self.weight =" not in line
    ]
    with pytest.raises(Refused, match="defines __setstate__"):
        check_code({name.partition("/code/")[2]: "\n".join([*kept, ""]).encode()})


BODY = "class M(Module):\n  def forward(self: __torch__.M,\n    x: Tensor) -> Tensor:\n    {}\n    return x\n"


@pytest.mark.parametrize(
    "line",
    [
        "_0 = 1  # a comment", "# type: (Tensor) -> Tensor", "_0 = 'single'", '_0 = """three"""', '_0 = r"raw"',
        '_0 = "a""b"', "_0 = 1; _1 = 2", "_0 = \\\n      1", "\t_0 = 1", "_0 = 1\r", "_0 = 1\x0c", "_0 = 0x10",
        "_0 = 1_000", "_0 = 1.real", 'x = "é"', '_0 = "never ends', "_0 = x != x", "_0 = 1e", "_0 = \0",
    ],
)  # fmt: skip
def test_what_two_lexers_may_read_in_two_ways_is_refused(line):
    check_code({"__torch__.py": BODY.format('_0 = "a \\" \\\\ # \' text"').encode()})
    with pytest.raises(Refused, match=r"has code in __torch__\.py"):
        check_code({"__torch__.py": BODY.format(line).encode("latin-1")})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ops.prim.rpc_sync(x)", "calls ops.prim.rpc_sync"),
        ("torch.ops.aten.save(x)", "calls torch.ops.aten.save"),
        ("ops.quantized.linear_prepack(x)", "calls ops.quantized.linear_prepack"),
        ("ops.mkldnn_prepacked.conv2d_prepack(x)", "calls ops.mkldnn_prepacked.conv2d_prepack"),
        ("torch.set_(x, x)", "calls torch.set_"),
        ("torch.resize_(x, [9])", "calls torch.resize_"),
        ("torch.Save(x)", "calls torch.Save"),
        ("torch.seed()", "calls torch.seed"),
        ("torch.set_grad_enabled(True)", "calls torch.set_grad_enabled"),
        ("ops.prim.Print(x)", "calls ops.prim.Print"),
        ("awaitable(x)", "calls awaitable"),
        ("exec(x)", "calls exec"),
        ("open(x)", "calls open"),
        ("CONSTANTS.c0()", "calls CONSTANTS.c0"),
        ("__torch__.nowhere(x)", "calls __torch__.nowhere"),
        ("x()", "calls x"),
        ("torch.relu(*x)", "has a Starred"),
        ("del x", "has a Delete"),
        ("assert x", "has a Assert"),
        ("import os", "has a Import"),
        ("_0 = lambda: 1", "has a Lambda"),
        ("self.x = x", "sets the attribute 'x' in forward"),
        ("print = __torch__.M\n    print(x)", "names|calls print"),
        ("return yield_", None),
    ],
)
def test_a_line_that_acts_is_refused_by_name(line, message):
    source = {"__torch__.py": BODY.format(line).encode()}
    if message is None:
        check_code(source)
    else:
        with pytest.raises(Refused, match=message):
            check_code(source)


@pytest.mark.parametrize(
    "content",
    [
        "x = 1", "import os", "op_version_set = 1", "def f(x=f()):\n  return x", "def f(*x):\n  return x",
        "@f\ndef g(x):\n  return x", "@f\nclass M(Module):\n  pass", "class M(Module, metaclass=f):\n  pass",
        "class M(Module):\n  f(1)", "class M(Module):\n  x : f(1)", "class M(Module):\n  x : int = f(1)",
        "class M(Module):\n  x = f(1)", 'class M(Module):\n  __annotations__["0"] = f(1)',
        "def f(x: g(1)):\n  return x", "class M(NamedTuple):\n  x : int = f(1)", "def f() -> g(1):\n  return 1",
        "(" * 5000, "-" * 100_000 + "1",
    ],
)  # fmt: skip
def test_what_runs_on_loading_is_literal(content):
    with pytest.raises(Refused):
        check_code({"__torch__.py": f"{content}\n".encode()})


@pytest.mark.parametrize(
    ("content", "folder", "message"),
    [
        (b"c__torch__.torch.classes.quantized\nLinearPackedParamsBase\n.", "data", r"names __torch__\.torch\.classes"),
        (b"c__torch__.models\nM\n.", "constants", r"names __torch__\.models\.M in constants\.pkl"),
        (b"cos\nsystem\n.", "data", r"names os\.system in data\.pkl"),
        (b"ctorch.distributed.rpc\nrref\n.", "data", r"names torch\.distributed\.rpc\.rref"),
        (b"\x8c\x02os\x8c\x06system\x93.", "data", "has the opcode SHORT_BINUNICODE"),
        (b"(ios\nsystem\n.", "data", "has the opcode INST"),
        (b"c__torch__.models\nM\nK\x00)R.", "data", "calls a number"),
        (b"K\x07Q.", "data", r"no pickle .*data\.pkl"),
        (b"R.", "data", r"no pickle .*data\.pkl"),
        (b"h\x00.", "data", r"no pickle .*data\.pkl"),
        (b"", "data", r"no pickle .*data\.pkl"),
        (b"\x80\x02X\xff\xff\xff\x7f", "data", r"no pickle .*data\.pkl"),
        # PyTorch's unpickler would fill memory up to the number, or call itself once for each level.
        (b"]r\xff\xff\xff\x3f.", "data", r"does not count .*data\.pkl"),
        (b")" + b"\x85" * 1001 + b".", "data", "more than 1000 values within each other"),
        (b"]" * 1002 + b"a" * 1001 + b".", "data", "more than 1000 values within each other"),
        (b"]q\x00h\x00a.", "data", "refers to a value that is not complete"),
        (b"]q\x00\x85h\x00K\x01a.", "data", "changes a value that is complete"),
        (
            b"ctorch.jit._pickle\nrestore_type_tag\n]X\xf9\x01\x00\x00" + b"List[" * 101 + b"\x86R.",
            "data",
            "more than 100 types within each other",
        ),
    ],
)
def test_a_pickle_names_tensors_and_the_archives_classes(content, folder, message):
    check_pickle(b"c__torch__.models\nM\n.", "data", {})
    with pytest.raises(Refused, match=message):
        check_pickle(content, folder, {})


def test_a_tensor_that_is_longer_than_its_file_is_refused(tmp_path):
    """PyTorch reads the rest from other memory of the process."""
    path = scripted(nn.Sequential(nn.Flatten(), nn.Linear(4, 3000)), tmp_path / "model.pt")
    entries = entries_of(path)
    (name,) = [name for name in entries if name.endswith("/data/0")]
    entries[name] = entries[name][:16]
    written(path, entries)
    weight = next(plain(path).parameters())
    assert weight.untyped_storage().nbytes() == 48_000  # these values are not read here
    assert re.search(r"tensor .*data/0", refusal(path, tmp_path))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"K\x00K\x03K\x04\x86", b"K\x01K\x03K\x04\x86"),  # offset larger by one
        (b"K\x03K\x04\x86", b"K\x04K\x04\x86"),  # longer
        (b"K\x04K\x01\x86", b"K\x05K\x01\x86"),  # larger strides
        (b"K\x04K\x01\x86", b"J\xff\xff\xff\xffK\x01\x86"),  # negative stride
    ],
)
def test_a_tensor_that_reaches_out_of_its_memory_is_refused(old, new):
    """A weight of shape [3, 4] has a storage, an offset, sizes and strides."""
    tensor = (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
        b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x0ctQK\x00K\x03K\x04\x86K\x04K\x01\x86\x89"
        b"ccollections\nOrderedDict\n)RtR."
    )
    check_pickle(tensor, "data", {"data/0": 48})
    with pytest.raises(Refused, match=r"tensor .*data/0"):
        check_pickle(tensor, "data", {"data/0": 47})
    assert tensor.count(old) == 1
    with pytest.raises(Refused, match=r"tensor .*storage in data\.pkl"):
        check_pickle(tensor.replace(old, new), "data", {"data/0": 48})


def test_what_pytorch_compiled_is_looked_at_again(tmp_path, monkeypatch):
    """The check of graphs also works if the check of code is bypassed."""
    monkeypatch.chdir(tmp_path)
    path = scripted(SavesInAFunction(), tmp_path / "model.pt")
    monkeypatch.setattr(torchscript, "check_code", lambda sources: None)
    assert "calls aten::save" in refusal(path, tmp_path)
    unit = torch._C.CompilationUnit()
    unit.define("def f(x: Tensor):\n  if bool(x):\n    for i in range(3):\n      print(x)\n  return x\n")
    with pytest.raises(Refused, match="calls prim::Print"):
        check_graphs(unit.get_functions())


@pytest.mark.processes
def test_in_a_sandbox_a_model_may_try_to_write(tmp_path, monkeypatch):
    """In a sandbox the model may try; `--evaluate_only` and `score` load it with `import_model`."""
    monkeypatch.chdir(tmp_path)
    for kind in (Saves, SavesWhileLoading):
        path = scripted(kind(), tmp_path / "model.pt")
        (tmp_path / "made").unlink(missing_ok=True)
        with Sandbox(path) as sandbox:  # PyTorch ignores a file that it cannot write
            assert sandbox(np.zeros((2, 16, 16, 3))).shape == (2, 768)
        assert not (tmp_path / "made").exists()


@pytest.mark.processes
def test_evaluating_it_is_one_line_and_no_file(tmp_path, embedded_data_path):
    path = tmp_path / "theirs" / "representation" / "pytorch_model.pt"
    path.parent.mkdir(parents=True)
    made = tmp_path / "made"
    with_code(path, (FORWARD, f'{FORWARD}    torch.save(images, "{made}")\n'))
    plain(path)(IMAGES)
    made.unlink()
    result = subprocess.run(
        [sys.executable, "run.py", "--evaluate_only", "--experiment", "theirs", "--dataset", "mpi3d_embedded"],
        env={**os.environ, "AICROWD_OUTPUT_PATH": str(tmp_path), "DISENTANGLEMENT_LIB_DATA": str(embedded_data_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert f"{path} calls torch.save" in result.stderr
    assert "Traceback" not in result.stderr
    assert not made.exists()


def test_what_a_model_says_does_not_reach_the_terminal_as_it_is(tmp_path):
    """The text clears the screen and imitates another program's output."""
    path = with_code(
        tmp_path / "model.pt", (FORWARD, f'{FORWARD}    ops.prim.RaiseException("\\033[2Jall scores are 1\\a")\n')
    )
    with pytest.raises(torch.jit.Error, match="\033"):
        plain(path)(IMAGES)
    with pytest.raises(RepresentationError, match="all scores are 1") as raised:
        make_representor(import_model(path), cuda=False)(np.zeros((1, 4, 4, 3)))
    assert str(raised.value).isprintable()


def test_code_that_nests_too_deeply_is_one_line(tmp_path):
    path = with_code(tmp_path / "model.pt", ("k: int=3", f"k: int={'-' * 900}(torch.seed())"))
    with pytest.raises(RepresentationError) as raised:
        import_model(path)
    assert "\n" not in str(raised.value)


def test_a_model_of_ones_own_is_refused_by_the_name_of_the_file_that_it_would_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RepresentationError) as raised:
        export_model(torch.jit.script(MakesAFile()), tmp_path / "model.pt", (1, 3, 16, 16))
    assert str(raised.value).startswith(f"{tmp_path / 'model.pt'} calls torch.from_file")
    assert not list(tmp_path.glob("*.pt"))


def test_in_the_sandbox_other_operators_are_allowed(tmp_path):
    class Seeds(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            torch.manual_seed(5)
            return images.flatten(1)[:, :5]

    path = scripted(Seeds(), tmp_path / "model.pt")
    refusal(path, tmp_path)
    images = np.random.RandomState(0).rand(2, 4, 4, 3).astype(np.float32)
    with Sandbox(path) as sandbox:
        np.testing.assert_array_equal(sandbox(images), np.moveaxis(images, 3, 1).reshape(2, -1)[:, :5])


OURS = {
    "conv": lambda: conv_encoder((3, 64, 64), 5, activation="leaky_relu", width=0.25),
    "fc": lambda: fc_encoder((3, 64, 64), 5, activation="elu", width=0.05),
    "residual": lambda: residual_encoder((3, 64, 64), 5, base_channels=4),
    **{
        f"conv {name}": lambda name=name: conv_encoder((3, 64, 64), 5, activation=name, width=0.1)
        for name in ACTIVATIONS
    },
}


@pytest.mark.parametrize("how", ["traced", "scripted", "exported"])
@pytest.mark.parametrize("kind", OURS)
def test_our_own_models_are_read(tmp_path, kind, how):
    torch.manual_seed(0)
    loads_and_computes_the_same(MeanEncoder(OURS[kind]()).eval(), torch.rand(2, 3, 64, 64), how, tmp_path)


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        (kind, how)
        for kind in SCRIPTED
        for how in ("traced", "scripted", "frozen", "exported")
        # Freezing turns torch.no_grad() into a change of the process's state; the other trace is for one batch size.
        if (kind, how) not in {("WithoutGradients", "frozen"), ("ControlFlow", "exported")}
    ],
)
def test_what_people_write_is_read(tmp_path, kind, how):
    torch.manual_seed(0)
    loads_and_computes_the_same(SCRIPTED[kind]().eval(), IMAGES, how, tmp_path)


def loads_and_computes_the_same(model, images, how, folder):
    path = folder / "model.pt"
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if how == "exported":
            export_model(model, path, (1, *images.shape[1:]), images=images)
        else:
            module = torch.jit.trace(model, images.clone()) if how == "traced" else torch.jit.script(model)
            torch.jit.save(torch.jit.freeze(module) if how == "frozen" else module, str(path))
        assert torch.equal(import_model(path)(images.clone()), plain(path)(images.clone()))
        assert torch.allclose(import_model(path)(images.clone()), model(images.clone()), atol=1e-5)


def test_nothing_is_allowed_by_a_slip():
    for name in ("save", "from_file", "manual_seed", "set_", "resize_", "_print", "set_grad_enabled", "from_file_", ""):
        assert not is_allowed(f"aten::{name}")
    assert not is_allowed("prim::Print")
    assert not is_allowed("save")
    assert all(map(is_allowed, ("aten::warn", "aten::format", "prim::RaiseException", "aten::sub_", "aten::conv2d")))


def test_mutated_code_is_refused_or_harmless(tmp_path):
    """Code of 3,000 archives with swapped, cut and joined lines is either accepted, or refused after parsing."""
    sources = [
        content
        for kind in ("ControlFlow", "Attention", "Gaussian")
        for name, content in entries_of(scripted(SCRIPTED[kind](), tmp_path / "model.pt")).items()
        if name.endswith(".py")
    ]
    generator = random.Random(0)
    outcomes = {True: 0, False: 0}
    for _ in range(3000):
        source = bytearray(generator.choice(sources))
        for _ in range(generator.randint(1, 3)):
            i, j = (generator.randrange(len(source)) for _ in range(2))
            source[i : i + generator.randint(0, 9)] = source[j : j + generator.randint(0, 9)]
        try:
            check_code({"__torch__.py": bytes(source)})
            outcomes[True] += 1
        except Refused:
            outcomes[False] += 1
    assert min(outcomes.values()) > 50
