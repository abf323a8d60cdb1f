"""docs/configuration.md against the names that gin files may bind, and their defaults in the code."""

import inspect
import re

import gin
from conftest import ROOT
from gin import config as gin_config

import disentanglement_challenge.export.sandbox
import disentanglement_challenge.training.run  # noqa: F401 (registers what training reads)
from disentanglement_challenge.evaluation.bindings import register
from disentanglement_challenge.gin_names import GIN_NAMES, parameters_of
from disentanglement_challenge.metrics import RECORDS

PAGE = (ROOT / "docs" / "configuration.md").read_text()
ROWS = re.findall(r"^\| `(\w+\.\w+)` \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
BINDINGS = [f"{name}.{parameter}" for name in GIN_NAMES for parameter in parameters_of(name)]


def default_of(binding):
    """As the page spells it."""
    if binding == "dataset.name":
        return "`'auto'`"
    official = {name: value for record in RECORDS.values() for name, value in record.official().items()}
    if binding in official:
        value = official[binding]
    else:
        name, _, parameter = binding.rpartition(".")
        configurable = gin_config._REGISTRY[gin_config._REGISTRY.matching_selectors(name)[0]]
        value = inspect.signature(configurable.fn_or_cls).parameters[parameter].default
    if value is gin.REQUIRED:
        return "required"
    return "`" + re.sub(r"'(@[a-z_]+)'", r"\1", repr(value)) + "`"  # gin's references have no quotes


def test_it_has_every_binding_once():
    assert sorted(name for name, _, _ in ROWS) == sorted(BINDINGS)


def test_it_names_every_function_without_parameters():
    for name in GIN_NAMES:
        assert parameters_of(name) or f"`@{name}`" in PAGE, name


def test_its_defaults_are_those_of_the_code():
    register(RECORDS.values())
    shown = {name: default for name, default, _ in ROWS}
    assert shown == {binding: default_of(binding) for binding in BINDINGS}
