"""The text of a configuration, read back."""

from disentanglement_challenge.gin_text import config_bindings


def test_bindings_of_a_configuration_as_gin_writes_it():
    text = "# Parameters for a:\n# ====\na.b = 1\nscope/c.d = \\\n    'long'\ne.f = \\\n    [1,\n     2]\n"
    assert config_bindings(text) == {"a.b": "1", "scope/c.d": "'long'", "e.f": "[1, 2]"}
