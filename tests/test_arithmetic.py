import pytest
import torch
from torch import nn

from disentanglement_challenge.arithmetic import deterministic_convolutions, float32_products


def settings():
    backends = torch.backends
    parts = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
    parts += [backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn]
    return [part.fp32_precision for part in parts], backends.cudnn.deterministic


@pytest.mark.parametrize(("precision", "on_gpu"), [("ieee", "ieee"), ("tf32", "tf32")])
def test_the_settings_hold_inside_the_block_and_are_put_back(precision, on_gpu):
    before = settings()
    with pytest.raises(ValueError, match="a bug"), float32_products(precision), deterministic_convolutions():
        assert settings() == ([on_gpu] * 3 + ["ieee"] * 3, True)
        raise ValueError("a bug")
    assert settings() == before


def test_pytorchs_older_settings_can_still_be_read_afterwards():
    """torch.export reads them, and fails if the two interfaces disagree."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    with float32_products("tf32"), float32_products():
        pass
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before
    torch.export.export(nn.Conv2d(3, 4, 3), (torch.rand(1, 3, 8, 8),))
