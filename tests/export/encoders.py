"""Typical encoders of images [N, 3, 16, 16], which a model file may contain."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 3, padding="same", groups=2), nn.LeakyReLU(0.2), nn.AvgPool2d(2), nn.Dropout2d(0.3),
        )  # fmt: skip
        self.head = nn.Linear(8 * 4 * 4, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images).view(images.size(0), -1))


class Activations(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 6, 4, stride=2, padding_mode="reflect", padding=1)
        self.activations = nn.ModuleList(
            [
                nn.GELU(), nn.SiLU(), nn.ELU(), nn.CELU(), nn.SELU(), nn.Mish(), nn.Hardswish(), nn.Hardsigmoid(),
                nn.Softplus(), nn.Softsign(), nn.Tanh(), nn.Sigmoid(), nn.PReLU(), nn.ReLU6(), nn.Hardtanh(),
                nn.GELU(approximate="tanh"), nn.Tanhshrink(), nn.LogSigmoid(), nn.Threshold(-100.0, 0.0), nn.RReLU(),
            ]
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.convolution(images)
        for activation in self.activations:
            hidden = activation(hidden)
        return hidden.flatten(1)[:, :7]


class Norms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.group = nn.GroupNorm(4, 8)
        self.instance = nn.InstanceNorm2d(8, affine=True, track_running_stats=True)
        self.layer = nn.LayerNorm([8, 4, 4])
        self.local = nn.LocalResponseNorm(2)
        self.batch = nn.BatchNorm1d(128)
        self.root = nn.RMSNorm(128)
        self.weighted = nn.utils.parametrizations.weight_norm(nn.Linear(128, 6))

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.local(self.layer(self.instance(self.group(self.stem(images)))))
        hidden = F.normalize(self.root(self.batch(hidden.flatten(1))), dim=1)
        return F.linear(hidden, torch.ones(6, 128, device=images.device) / 128)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        self.position = nn.Parameter(torch.randn(1, 17, 16) * 0.02)
        self.token = nn.Parameter(torch.zeros(1, 1, 16))
        self.attention = nn.MultiheadAttention(16, 4, dropout=0.1, batch_first=True)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 6)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(images.shape[0], -1, -1), tokens], dim=1) + self.position
        attended, _ = self.attention(tokens, tokens, tokens)
        return self.head(self.norm(tokens + attended)[:, 0])


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Unfold(4, stride=4)
        self.embedding = nn.Linear(48, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, activation="gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 6)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encoder(self.embedding(self.patches(images).permute(0, 2, 1))).mean(dim=1))


class ByHand(nn.Module):
    """Attention written out, with einsum, masks and softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.to_qkv = nn.Linear(3 * 16, 3 * 16)
        self.register_buffer("mask", torch.tril(torch.ones(16, 16)).bool())

    def forward(self, images: Tensor) -> Tensor:
        batch, channels, height, width = images.shape
        patches = images.reshape(batch, channels, height // 4, 4, width // 4, 4).permute(0, 2, 4, 1, 3, 5)
        q, k, v = self.to_qkv(patches.reshape(batch, 16, -1)).chunk(3, dim=-1)
        scores = torch.einsum("bid,bjd->bij", q, k) / (q.shape[-1] ** 0.5)
        weights = F.softmax(scores.masked_fill(~self.mask, float("-inf")), dim=-1)
        attended = torch.matmul(weights, v) + F.scaled_dot_product_attention(q, k, v)
        return torch.log_softmax(attended.mean(1), dim=-1)[..., :8]


class Block(nn.Module):
    expansion: int = 1

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    """A ResNet in torchvision's style."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Block(8, 8, 1), Block(8, 8, 1))
        self.layer2 = nn.Sequential(Block(8, 16, 2), Block(16, 16, 1))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(16, 6)

    def _forward_impl(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(x))))))
        return self.fc(torch.flatten(self.avgpool(x), 1))

    def forward(self, x: Tensor) -> Tensor:
        return self._forward_impl(x)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(48, 8, num_layers=2, batch_first=True, bidirectional=True, dropout=0.2)
        self.lstm = nn.LSTM(16, 6)
        self.cell = nn.LSTMCell(6, 6)
        self.rnn = nn.RNN(6, 6)

    def forward(self, images: Tensor) -> Tensor:
        rows = images.permute(0, 2, 1, 3).flatten(2)  # [N, 16, 48]
        hidden, _ = self.gru(rows)
        hidden, (last, cell) = self.lstm(hidden.transpose(0, 1))
        output, _ = self.rnn(hidden)
        return self.cell(output[-1], (last[0], cell[0]))[0]


class Resized(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        smaller = F.interpolate(images, size=(8, 8), mode="bilinear", align_corners=False)
        bicubic = F.interpolate(images, scale_factor=0.5, mode="bicubic", antialias=True)
        nearest = F.interpolate(images, size=8, mode="nearest")
        area = F.interpolate(images, size=8, mode="area")
        grid = F.affine_grid(torch.eye(2, 3).repeat(images.shape[0], 1, 1), list(images.shape), align_corners=False)
        moved = F.adaptive_max_pool2d(F.grid_sample(images, grid, align_corners=False), 8)
        padded = F.pad(F.pad(smaller, [1, 1, 1, 1], mode="circular"), [-1, -1, -1, -1])
        shuffled = F.pixel_shuffle(F.pixel_unshuffle(images, 2), 2)[:, :, ::2, ::2]
        stacked = torch.stack([smaller, bicubic, nearest, area, moved, padded, shuffled]).sum(0)
        return stacked.mean(dim=(2, 3))


class Standardised(nn.Module):
    """It changes its images in place, like the challenge's second-placed entry; `.view` needs channels first."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1))
        self.register_buffer("std", torch.tensor([0.2, 0.3, 0.25]).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        images.sub_(self.mean).div_(self.std)
        return images.view(images.shape[0], -1)[:, ::97]


class Moments(NamedTuple):
    mean: Tensor
    log_variance: Tensor


class Gaussian(nn.Module):
    """An encoder with the VAE's other methods, and a method that sets attributes and is never called."""

    calls: int
    names: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Flatten(), nn.Linear(64, 12))
        self.decoder = nn.Linear(6, 64)
        self.calls = 0
        self.names = ["a", "b\"\\\n'"]
        self.scales = {"mean": 1.0, "log_variance": 2.0}
        self.temperature: float | None = None

    def moments(self, images: Tensor) -> Moments:
        mean, log_variance = self.encoder(images).chunk(2, 1)
        return Moments(mean * self.scales["mean"], log_variance)

    @torch.jit.export
    def sample(self, images: Tensor) -> Tensor:
        moments = self.moments(images)
        return moments.mean + torch.randn_like(moments.mean) * torch.exp(moments.log_variance / 2)

    @torch.jit.export
    def reset(self) -> None:
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        mean = self.moments(images).mean
        temperature = self.temperature
        if temperature is not None:
            mean = mean / temperature
        return mean


class ControlFlow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(48, 48) for _ in range(3)])
        self.named = nn.ModuleDict({"first": nn.Linear(48, 8), "second": nn.Linear(48, 8)})
        self.weights = nn.ParameterList([nn.Parameter(torch.ones(8)) for _ in range(2)])
        self.mode = "mean"
        self.threshold = 0.5

    def forward(self, images: Tensor, scale: float = 1e-5, name: str = "images\n") -> Tensor:
        """Use checks, loops, lists, dictionaries and strings."""
        if images.dim() != 4 or images.size(1) not in (1, 3):
            raise ValueError(f"expected images [N, 3, H, W], got {images.dim()} dimensions of {name}")
        assert images.shape[2] % 4 == 0, "the height must be divisible by 4"
        pooled = F.adaptive_avg_pool2d(images, (4, 4)).flatten(1)
        outputs: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            pooled = layer(pooled).clamp(min=0.0)
            if i != 1:
                outputs.append(pooled)
        total = torch.stack([output.sum(1) for output in outputs]).sum(0)
        parts: dict[str, Tensor] = {}
        for key, layer in self.named.items():
            parts[key] = torch.where(layer(pooled) > self.threshold, pooled[:, :8], pooled[:, 8:16])
        steps = 0
        while steps < 3:
            steps += 1
            if steps == 2:
                break
        result = parts["first"] + parts["second"] * scale
        result[:, 0] = 1.0
        result[:, 1] += float(steps)
        result[:, 2:4] *= 2
        if self.mode == "mean":
            result = result - result.mean(0, keepdim=True) * 0
        elif self.mode == "max":
            result, _ = result.max(dim=1, keepdim=True)
        rows = [row * 2 for row in result]
        pairs = [(first, second) for first, second in zip(rows, rows)]  # noqa: B905 (TorchScript has no strict)
        result = torch.stack([first + second for first, second in pairs]) + torch.arange(8, device=images.device)
        if isinstance(total, Tensor):
            result = result + total.unsqueeze(1) * (0 if self.training else 1)
        return result * self.weights[0] if len(rows) > 0 else result * min(1, 2)


class WithoutGradients(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 8, 16)
        self.activation = torch.relu

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            hidden = self.backbone(images)
        activate = F.softplus
        return activate(hidden.detach().to(torch.float32).cpu()).squeeze(-1).squeeze(-1).contiguous()


class Frequencies(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(images)
        power = spectrum.abs().log1p().mean(1)
        values = torch.linalg.svdvals(power[:, :4, :4])
        top, _ = power.flatten(1).topk(3, dim=1)
        return torch.cat([values, top, torch.special.expit(power[:, 0, :2])], 1)


class Squeeze(nn.Module):
    """Squeeze-and-excitation, depthwise convolutions, a transposed one."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(3, 6, 3, padding=1, groups=3)
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 2, 1), nn.SiLU(), nn.Conv2d(2, 6, 1))
        self.up = nn.ConvTranspose2d(6, 4, 4, 2, 1)
        self.pool = nn.LPPool2d(2, 4)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.depthwise(images)
        hidden = hidden * torch.sigmoid(self.squeeze(hidden))
        return self.pool(self.up(hidden)).amax((2, 3))


class Vector(nn.Module):
    """Vector quantisation: distances, argmin, an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 8, 8)
        self.codebook = nn.Embedding(10, 4)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.stem(images).permute(0, 2, 3, 1)
        distances = torch.cdist(hidden.reshape(-1, 4), self.codebook.weight)
        indices = distances.argmin(1)
        one_hot = F.one_hot(indices, 10).to(hidden.dtype)
        quantised = self.codebook(indices) + 0 * one_hot @ self.codebook.weight
        quantised = hidden + (quantised.view_as(hidden) - hidden).detach()
        return quantised.reshape(images.size(0), -1)


SCRIPTED = {
    kind.__name__: kind
    for kind in (
        Convolutional, Activations, Norms, Attention, Transformer, ByHand, ResNet, Recurrent, Resized, Standardised,
        Gaussian, ControlFlow, WithoutGradients, Frequencies, Squeeze, Vector,
    )
}  # fmt: skip
