import pytest
import torch
from torch import nn
from torch.nn import functional

from disentanglement_challenge.models.decoders import deconv_decoder, residual_decoder
from disentanglement_challenge.training.transposed_convolution import (
    composed_transposed_convolutions,
    double_sides,
    doubles_sides,
)


def operands(outputs, dtype=torch.float64, bias=True):
    """Features [2, 6, 3, 5], a weight, a bias or None, and the gradient of the output."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 6, 3, 5), (6, outputs, 4, 4), (outputs,), (2, outputs, 6, 10)]
    drawn = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
    features, weight, shift = (tensor.requires_grad_() for tensor in drawn[:3])
    return features, weight, shift if bias else None, drawn[3]


def plain(features, weight, bias):
    return functional.conv_transpose2d(features, weight, bias, stride=2, padding=1)


def computed(function, features, weight, bias, gradient):
    """The output, and the gradients of the operands that have one."""
    output = function(features, weight, bias)
    wanted = [tensor for tensor in (features, weight, bias) if tensor is not None and tensor.requires_grad]
    return output, *torch.autograd.grad(output, wanted, gradient.to(output.dtype))


def operations(network, inputs):
    """The names of a traced network's operations, in order."""
    return [node.kind() for node in torch.jit.trace(network, inputs).inlined_graph.nodes()]


# Up to four channels the forward pass is another one.
@pytest.mark.parametrize("outputs", [1, 3, 4, 5, 8])
@pytest.mark.parametrize("bias", [True, False])
def test_output_and_gradients_are_those_of_the_transposed_convolution(outputs, bias):
    given = operands(outputs, bias=bias)
    for value, expected in zip(computed(double_sides, *given), computed(plain, *given), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("outputs", [3, 5])
def test_the_gradients_are_the_derivatives(outputs):
    *given, _ = operands(outputs)
    assert torch.autograd.gradcheck(double_sides, given)


@pytest.mark.parametrize("frozen", range(3))
def test_what_needs_no_gradient_gets_none(frozen):
    given = operands(3)
    given[frozen].requires_grad_(False)
    for value, expected in zip(computed(double_sides, *given), computed(plain, *given), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("outputs", [3, 8])
def test_under_autocast_it_is_what_autocast_computes(outputs):
    """In bfloat16, with gradients in the operands' own precision."""
    given = operands(outputs, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        results = [computed(function, *given) for function in (double_sides, plain)]
    for value, expected in zip(*results, strict=True):
        assert value.dtype == expected.dtype
        torch.testing.assert_close(value, expected, rtol=2**-7, atol=2**-7)
    assert results[0][0].dtype == torch.bfloat16
    assert {value.dtype for value in results[0][1:]} == {torch.float32}


@pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning")
def test_the_decoder_s_layers_are_computed_so_inside_the_block_and_left_as_they_are():
    decoder, codes = deconv_decoder((3, 64, 64), 4), torch.randn(2, 4)
    layers = [layer for layer in decoder if isinstance(layer, nn.ConvTranspose2d)]
    assert len(layers) == 4
    before = operations(decoder, codes)
    with pytest.raises(ValueError, match="a bug"), composed_transposed_convolutions(decoder):
        composed = decoder(codes)
        assert [type(layer(torch.zeros(1, layer.in_channels, 2, 2)).grad_fn).__name__ for layer in layers] == [
            "_DoubleSidesBackward"
        ] * 4
        raise ValueError("a bug")
    assert not any("forward" in vars(layer) for layer in layers)
    torch.testing.assert_close(composed, decoder(codes))
    assert operations(decoder, codes) == before
    assert before.count("aten::_convolution") == 4


@pytest.mark.parametrize("decoder_fn", [deconv_decoder, residual_decoder])
def test_a_decoder_s_gradients(decoder_fn):
    decoder = decoder_fn((3, 32, 48), 4).double()
    codes = torch.randn(2, 4, dtype=torch.float64)
    results = []
    for compose in (True, False):
        if compose:
            with composed_transposed_convolutions(decoder):
                loss = decoder(codes).square().sum()
        else:
            loss = decoder(codes).square().sum()
        results.append(torch.autograd.grad(loss, list(decoder.parameters())))
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)


class Other(nn.ConvTranspose2d):
    """A layer of somebody's own, which may compute something else."""


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.ConvTranspose2d(6, 5, 4, stride=2, padding=1), True),
        (nn.ConvTranspose2d(6, 5, 3, stride=2, padding=1), False),
        (nn.ConvTranspose2d(6, 5, 4, stride=1, padding=1), False),
        (nn.ConvTranspose2d(6, 5, 4, stride=2), False),
        (nn.ConvTranspose2d(6, 5, 4, stride=2, padding=1, output_padding=1), False),
        (nn.ConvTranspose2d(6, 5, 4, stride=2, padding=1, dilation=2), False),
        (nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1, groups=2), False),
        (nn.Conv2d(6, 5, 4, stride=2, padding=1), False),
        (Other(6, 5, 4, stride=2, padding=1), False),
    ],
)
def test_layers_of_another_kind_are_computed_as_they_are(layer, expected):
    assert doubles_sides(layer) is expected
    features = torch.randn(2, 6, 8, 8)
    with composed_transposed_convolutions(layer):
        composed = layer(features)
    torch.testing.assert_close(composed, layer(features))
    assert (type(composed.grad_fn).__name__ == "_DoubleSidesBackward") is expected


def test_calls_of_another_kind_are_pytorch_s():
    layer, features = nn.ConvTranspose2d(6, 3, 4, stride=2, padding=1), torch.randn(2, 6, 3, 5)
    with composed_transposed_convolutions(layer):
        larger, alone = layer(features, output_size=(7, 11)), layer(features[0])
    assert torch.equal(larger, layer(features, output_size=(7, 11)))
    assert torch.equal(alone, layer(features[0]))
