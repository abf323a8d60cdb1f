"""Each recipe of docs/extending.md, run as it stands on the page."""

from contextlib import closing

import pytest
from pages import Runner, sections

pytestmark = pytest.mark.processes
PAGE = "docs/extending.md"
RECIPES = sections(PAGE)


@pytest.fixture(scope="module")
def runner(embedded_data_path):
    with closing(Runner(embedded_data_path)) as runner:
        yield runner


def test_there_are_ten():
    assert [recipe.split(".")[0] for recipe in RECIPES] == [str(number) for number in range(1, 11)]


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_runs(runner, recipe, tmp_path):
    runner.run(PAGE, recipe, tmp_path)
