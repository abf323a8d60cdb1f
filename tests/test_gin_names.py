"""The static table of names agrees with the registered names, and with the names of disentanglement_lib."""

import inspect
import re
from importlib.util import find_spec
from pathlib import Path

import gin
import pytest
from gin import config as gin_config

import disentanglement_challenge.export.sandbox
import disentanglement_challenge.training.run  # noqa: F401 (registers the names of training)
from disentanglement_challenge.evaluation.bindings import register
from disentanglement_challenge.gin_names import EVALUATION, GIN_NAMES, NOT_HERE, TRAINING
from disentanglement_challenge.metrics import RECORDS


def registered(module):
    """Return names and parameters, in the table's notation, that modules of this package register."""
    found = {}
    for _, configurable in gin_config._REGISTRY.items():
        if configurable.module.startswith(module):
            parameters = inspect.signature(configurable.fn_or_cls).parameters.values()
            allowed = configurable.allowlist or [parameter.name for parameter in parameters]
            denied = configurable.denylist or []
            found[configurable.name] = tuple(
                parameter.name + ("!" if parameter.default is gin.REQUIRED else "")
                for parameter in parameters
                if parameter.name in allowed and parameter.name not in denied
            )
    return found


def test_the_table_is_what_is_registered():
    register(RECORDS.values())  # including those of unified scores, which their module registers
    names = {**registered("disentanglement_lib."), **registered("disentanglement_challenge.")}
    named = {name: names[name] for name in names if name not in NOT_HERE}
    assert {name: named[name] for name in named if name not in EVALUATION} == TRAINING
    assert {name: named[name] for name in named if name not in TRAINING} == EVALUATION


def test_every_name_of_disentanglement_lib_is_known_or_explained():
    (folder,) = find_spec("disentanglement_lib").submodule_search_locations
    sources = [path.read_text() for path in Path(folder).rglob("*.py") if not path.name.endswith("_test.py")]
    names = {name for text in sources for name in re.findall(r'@gin\.configurable\(\s*"(\w+)"', text)}
    assert len(names) > 50
    assert names - set(GIN_NAMES) == names & set(NOT_HERE)


@pytest.mark.parametrize("name", NOT_HERE)
def test_no_name_is_both(name):
    assert name not in GIN_NAMES
