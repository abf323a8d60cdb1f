import gin
import numpy as np
import pytest
import torch
from messages import facts

from disentanglement_challenge.config import bound_parameters, bound_value, gin_configuration
from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.models.decoders import deconv_decoder
from disentanglement_challenge.models.encoders import conv_encoder


@gin.configurable("sized")
def sized(size=1, other_fn=None):
    return size


@gin.configurable("sized_required")
def sized_required(size=gin.REQUIRED):
    return size


@gin.configurable("filled")
def filled(make, size):
    return make(size)


def test_bindings_override_files_and_leave_nothing_behind(tmp_path):
    file = tmp_path / "a.gin"
    file.write_text("sized.size = 2\n")
    with gin_configuration([str(file)]):
        assert sized() == 2
    with gin_configuration([str(file)], ["sized.size = 3"]):
        assert sized() == 3
    assert sized() == 1


def test_files_include_others_from_their_own_folder(tmp_path):
    (tmp_path / "base.gin").write_text("sized.size = 5\n")
    (tmp_path / "row.gin").write_text("include 'base.gin'\n")
    with gin_configuration([str(tmp_path / "row.gin")]):
        assert sized() == 5


def test_one_files_folder_does_not_serve_the_next(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "one" / "base.gin").write_text("sized.size = 5\n")
    (tmp_path / "one" / "row.gin").write_text("include 'base.gin'\n")
    (tmp_path / "two" / "row.gin").write_text("include 'base.gin'\n")
    with (
        pytest.raises(ConfigError, match=r"base\.gin"),
        gin_configuration([str(tmp_path / "one" / "row.gin"), str(tmp_path / "two" / "row.gin")]),
    ):
        pass


@pytest.mark.parametrize(
    ("binding", "said"),
    [
        ("sizd.size = 1", ["'sizd'", "'sized'"]),
        ("sized.sise = 1", ["'sized'", "'sise'", "did you mean 'size'"]),
        ("sized.other_fn = @sized_requird", ["sized_requird'", "'sized_required'"]),
        ("sized.other_fn = @sized_requird()", ["sized_requird'", "'sized_required'"]),
        ("sized.size = ", []),
        ("sized.size = [1, 2", []),
        ("sized", []),
        ("sized.size = {[]: 1}", ["unhashable"]),
        ("import nothing_here", ["No module named 'nothing_here'"]),
    ],
)
def test_a_wrong_binding_is_one_line_with_the_nearest_right_one(binding, said):
    message = facts(f"--gin_bindings {binding!r}", *said)
    for skip_unknown in ([], ["mig"]):
        with pytest.raises(ConfigError, match=message) as raised, gin_configuration([], [binding], skip_unknown):
            pass
        assert "\n" not in str(raised.value)


def test_what_an_included_file_imports_is_looked_for(tmp_path):
    (tmp_path / "base.gin").write_text("import nothing_here\n")
    (tmp_path / "row.gin").write_text("include 'base.gin'\n")
    file = str(tmp_path / "row.gin")
    with pytest.raises(ConfigError, match=facts("'nothing_here'")), gin_configuration([file], skip_unknown=["mig"]):
        pass


@pytest.mark.parametrize(("file", "near"), [("shard.gin", "'shared.gin'"), ("relu.gin", None), ("nothere.gin", None)])
def test_a_gin_file_that_is_not_there_gets_a_hint_if_a_name_is_near(file, near):
    with pytest.raises(ConfigError, match=facts("no gin file", repr(file))) as raised, gin_configuration([file]):
        pass
    assert str(raised.value).endswith(f"; did you mean {near}?") if near else "did you mean" not in str(raised.value)


@pytest.mark.parametrize("file", ["x" * 300 + ".gin", "x" * 300 + "/a.gin", "/proc/1/mem/a.gin", "a\0.gin"])
def test_a_path_that_nothing_can_have(file):
    with pytest.raises(ConfigError, match=facts("no gin file", repr(file))), gin_configuration([file]):
        pass


def test_a_file_that_includes_itself(tmp_path):
    (tmp_path / "a.gin").write_text("include 'b.gin'\n")
    (tmp_path / "b.gin").write_text("include 'a.gin'\n")
    with pytest.raises(ConfigError, match=r"b\.gin.*'a\.gin'"), gin_configuration([str(tmp_path / "a.gin")]):
        pass


def test_a_macro_is_put_in_its_place():
    with gin_configuration([], ["N = 7", "sized.size = %N"]):
        assert bound_parameters("sized") == {"size": 7}
        assert "sized.size = %N" in gin.operative_config_str()
        assert bound_value("sized.size") == 7
    with pytest.raises(ConfigError, match=facts("macro %N", "N = ")), gin_configuration([], ["sized.size = %N"]):
        pass


def test_a_missing_file_names_the_nearest(tmp_path):
    (tmp_path / "stage_one.gin").write_text("")
    with (
        pytest.raises(ConfigError, match=r"stage_on\.gin'.*did you mean .*stage_one\.gin"),
        gin_configuration([str(tmp_path / "stage_on.gin")]),
    ):
        pass


def test_a_required_binding_that_is_missing_is_named():
    with pytest.raises(ConfigError, match=facts("sized_required.size", "--gin_bindings")), gin_configuration():
        sized_required()


@pytest.mark.parametrize(
    ("network", "binding"),
    [
        (conv_encoder, "conv_encoder.activation = 'rel'"),
        (deconv_decoder, "deconv_decoder.activation = 'rel'"),
        (conv_encoder, "conv_encoder.width = -1"),
    ],
)
def test_a_value_that_a_shared_check_refuses_is_named_in_full(network, binding):
    message = facts(binding.split(" = ")[0] + " is " + binding.split(" = ")[1], "must be")
    with pytest.raises(ConfigError, match=message), gin_configuration([], [binding]):
        network((3, 64, 64), 10)


@pytest.mark.parametrize("make", [np.empty, torch.empty])
def test_more_memory_than_there_is_is_one_line(make):
    message = facts("memory", "allocate", f"filled.size (now {1 << 58})")
    with pytest.raises(ConfigError, match=message) as raised, gin_configuration([], [f"filled.size = {1 << 58}"]):
        filled(make)
    assert "\n" not in str(raised.value)


def test_named_configurables_may_be_unknown():
    with gin_configuration([], ["not_imported_here.size = 1"], skip_unknown=["not_imported_here"]):
        assert sized() == 1
    with pytest.raises(ConfigError), gin_configuration([], ["nor_this.size = 1"], skip_unknown=["not_imported_here"]):
        pass
