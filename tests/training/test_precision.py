import pytest

from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.training.precision import check_has_precision


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_a_gpu_that_does_not_have_the_precision(precision):
    check_has_precision(precision, "NVIDIA A100", (8, 0))
    with pytest.raises(ConfigError, match=rf"{precision}.*Tesla T4 has compute capability 7\.5; .*use 'float32' here"):
        check_has_precision(precision, "Tesla T4", (7, 5))
