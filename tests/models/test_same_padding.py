"""The convolutions against TensorFlow's "same" padding: re-derived in numpy, and TensorFlow's own operations."""

import numpy as np
import pytest
import torch
from torch import nn

from disentanglement_challenge.models.decoders import deconv_decoder
from disentanglement_challenge.models.encoders import conv_encoder
from disentanglement_challenge.models.initialisation import initialise

tf = pytest.importorskip("tensorflow")


def same_convolution(image, kernel, stride):
    """[H, W, inputs] and [k, k, inputs, outputs] by TensorFlow's rule: ceil(n / stride) outputs."""
    size, (height, width, _) = kernel.shape[0], image.shape
    padding = [max((-(-n // stride) - 1) * stride + size - n, 0) for n in (height, width)]
    padded = np.pad(image, [(p // 2, p - p // 2) for p in padding] + [(0, 0)])
    result = np.zeros((-(-height // stride), -(-width // stride), kernel.shape[3]))
    for row, column in np.ndindex(*result.shape[:2]):
        patch = padded[row * stride : row * stride + size, column * stride : column * stride + size]
        result[row, column] = np.einsum("ijc,ijco->o", patch, kernel)
    return result


def first_layer(module, kind):
    return next(layer for layer in module.modules() if isinstance(layer, kind))


@torch.no_grad()
def test_convolution_layers_pad_as_tensorflow_does():
    layers = [layer for layer in conv_encoder((3, 64, 64), 2).double().hidden if isinstance(layer, nn.Conv2d)]
    for layer in (layers[0], layers[2]):
        image = torch.randn(layer.in_channels, 16, 16, dtype=torch.float64)
        expected = same_convolution(image.permute(1, 2, 0).numpy(), layer.weight.permute(2, 3, 1, 0).numpy(), stride=2)
        ours = layer(image[None])[0] - layer.bias[:, None, None]
        np.testing.assert_allclose(ours.permute(1, 2, 0).numpy(), expected, atol=1e-12)


@torch.no_grad()
def test_transposed_convolution_is_the_adjoint_of_the_same_padded_convolution():
    # That is TensorFlow's definition of conv2d_transpose: <conv(x), y> = <x, conv_transpose(y)>.
    layer = first_layer(deconv_decoder((3, 64, 64), 2).double(), nn.ConvTranspose2d)
    x = torch.randn(64, 8, 8, dtype=torch.float64)
    y = torch.randn(64, 4, 4, dtype=torch.float64)
    forward = same_convolution(x.permute(1, 2, 0).numpy(), layer.weight.permute(2, 3, 1, 0).numpy(), stride=2)
    adjoint = layer(y[None])[0] - layer.bias[:, None, None]
    np.testing.assert_allclose((forward * y.permute(1, 2, 0).numpy()).sum(), (x * adjoint).sum().item(), rtol=1e-10)


@torch.no_grad()
def test_conv_encoder_computes_what_tensorflow_s_operations_do():
    encoder = conv_encoder((3, 64, 64), 10)
    initialise(encoder, torch.Generator().manual_seed(0))
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))

    features = tf.constant(images.permute(0, 2, 3, 1).numpy())
    for layer in encoder.hidden:
        if isinstance(layer, nn.Conv2d):
            kernel = layer.weight.permute(2, 3, 1, 0).numpy()
            features = tf.nn.relu(tf.nn.conv2d(features, kernel, strides=2, padding="SAME") + layer.bias.numpy())
    dense = first_layer(encoder.hidden, nn.Linear)
    weight = dense.weight.reshape(256, 64, 4, 4).permute(2, 3, 1, 0).reshape(1024, 256)  # channels last, as TensorFlow
    features = tf.nn.relu(tf.reshape(features, [2, -1]) @ weight.numpy() + dense.bias.numpy())
    for ours, head in zip(encoder(images), (encoder.z_mean, encoder.z_logvar), strict=True):
        expected = features @ head.weight.T.numpy() + head.bias.numpy()
        np.testing.assert_allclose(ours.numpy(), expected.numpy(), atol=1e-5)


@torch.no_grad()
def test_deconv_decoder_computes_what_tensorflow_s_operations_do():
    decoder = deconv_decoder((3, 64, 64), 10)
    initialise(decoder, torch.Generator().manual_seed(0))
    codes = torch.randn(2, 10, generator=torch.Generator().manual_seed(1))

    first, second = (layer for layer in decoder if isinstance(layer, nn.Linear))
    features = tf.nn.relu(codes.numpy() @ first.weight.T.numpy() + first.bias.numpy())
    weight = second.weight.reshape(64, 4, 4, 256).permute(3, 1, 2, 0).reshape(256, 1024)  # channels last, as TensorFlow
    features = tf.reshape(tf.nn.relu(features @ weight.numpy()), [2, 4, 4, 64])
    deconvolutions = [layer for layer in decoder if isinstance(layer, nn.ConvTranspose2d)]
    for layer in deconvolutions:
        shape = [2, 2 * features.shape[1], 2 * features.shape[2], layer.out_channels]
        kernel = layer.weight.permute(2, 3, 1, 0).numpy()
        features = tf.nn.conv2d_transpose(features, kernel, shape, strides=2, padding="SAME") + layer.bias.numpy()
        features = features if layer is deconvolutions[-1] else tf.nn.relu(features)
    np.testing.assert_allclose(decoder(codes).permute(0, 2, 3, 1).numpy(), features.numpy(), atol=1e-5)
