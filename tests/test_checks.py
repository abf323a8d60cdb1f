import math
from pathlib import Path

import pytest
from messages import facts

from disentanglement_challenge.checks import check_choice, check_count, check_number, check_suffix, check_switch
from disentanglement_challenge.errors import ConfigError


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "1", None, 2**32])
def test_a_count_is_an_integer_of_32_bits(value):
    with pytest.raises(ConfigError, match=facts("a.count", repr(value), 1 if value != 2**32 else 2**32 - 1)):
        check_count("a.count", value)
    assert check_count("a.count", 2**32 - 1) == 2**32 - 1
    assert check_count("a.seed", 0, minimum=0) == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, "1", None, True, [1]])
def test_a_number_is_finite(value):
    with pytest.raises(ConfigError, match=facts("a.number", repr(value), "finite number")):
        check_number("a.number", value)


def test_the_bounds_of_a_number():
    assert check_number("a", 0, minimum=0, maximum=1) == 0
    assert check_number("a", 1, minimum=0, maximum=1) == 1
    assert check_number("a", 0.5, above=0) == 0.5
    for value, bounds, said in (
        (-0.1, {"minimum": 0}, "at least 0"),
        (0, {"above": 0}, "above 0"),
        (1.5, {"above": 0, "maximum": 1}, "above 0, at most 1"),
    ):
        with pytest.raises(ConfigError, match=facts(f"a is {value}", said)):
            check_number("a", value, **bounds)


def test_a_name_out_of_a_list_gets_the_nearest():
    assert check_choice("a.kind", "ii", ("i", "ii")) == "ii"
    with pytest.raises(ConfigError, match=facts("a.kind", "'bfloat'", "'float32', 'bfloat16'", "mean 'bfloat16'")):
        check_choice("a.kind", "bfloat", ("float32", "bfloat16"))
    with pytest.raises(ConfigError, match=facts("a.kind", "[]", "'i'")):
        check_choice("a.kind", [], {"i": 1})


@pytest.mark.parametrize("value", [0, 1, "True", None])
def test_a_switch_is_true_or_false(value):
    with pytest.raises(ConfigError, match=facts("a.switch", repr(value), "True or False")):
        check_switch("a.switch", value)
    assert check_switch("a.switch", False) is False


def test_an_output_has_the_suffix_of_what_is_written():
    assert check_suffix("--page", Path("a/b.html"), [".html"]) == Path("a/b.html")
    with pytest.raises(ConfigError, match=facts("--page", "codes.npy", "'.npy'", ".html or .htm")):
        check_suffix("--page", Path("codes.npy"), [".html", ".htm"])
