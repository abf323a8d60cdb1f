"""The headers of gin files that others include: what must be bound and what is commonly changed."""

import re

import pytest
from conftest import ROOT

from disentanglement_challenge.gin_checks import training_reach
from disentanglement_challenge.gin_names import GIN_NAMES, parameters_of, required_of
from disentanglement_challenge.gin_text import read_statements

INCLUDED = sorted(
    {name for path in (ROOT / "gin").rglob("*.gin") for name in re.findall(r'include "(\w+\.gin)"', path.read_text())}
    | {"scaled.gin", "mpi3d_embedded.gin"}
)


def header(name):
    """Return the comment at the top of a gin file."""
    return re.match(r"(#.*\n)+", (ROOT / "gin" / name).read_text()).group()


@pytest.mark.parametrize("name", INCLUDED)
def test_it_has_a_header(name):
    assert "Must be bound by" in header(name)
    assert "Commonly changed:" in header(name)


@pytest.mark.parametrize("name", INCLUDED)
def test_the_header_names_bindings_that_there_are(name):
    for found, parameter in re.findall(r"\b(\w+)\.(\w+)\b", header(name)):
        if found in GIN_NAMES:
            assert parameter in parameters_of(found)
        else:
            assert (ROOT / "docs" / f"{found}.{parameter}").exists(), f"{found}.{parameter}"


@pytest.mark.parametrize("name", ["shared.gin", "report.gin", "report_stage2.gin", "mpi3d_embedded.gin"])
def test_what_it_leaves_open_is_what_the_header_says(name):
    statements = read_statements([str(ROOT / "gin" / name)], [])
    bound = {(statement[1], statement[2]) for statement in statements.effective}
    reach = training_reach(statements, "mpi3d_embedded")
    required = {(called, parameter) for _, called in reach.names for parameter in required_of(called)}
    missing = {".".join(pair) for pair in required - bound}
    to_be_bound = header(name).partition("Must be bound by")[2].partition("Commonly changed")[0]
    assert missing == set(re.findall(r"\b(?:model|encoder)\.\w+", to_be_bound))
    assert missing or "nothing" in to_be_bound
