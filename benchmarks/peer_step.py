#!/usr/bin/env python
"""Time a peer's training step for benchmarks/training.py, which runs this file in an environment with the peer.

    python peer_step.py NAME BATCH_SIZE NUM_LATENT THREADS

The networks are disentanglement_lib's: conv_encoder, deconv_decoder, fc_discriminator. The program reads a number of
steps from each line of its input and prints their seconds.

pythae   FactorVAE, with the calls of its AdversarialTrainer for a batch. It splits the batch: one half is
         reconstructed and the codes of the other are permuted, as here with `factor_vae.second_batch`.
disent   BetaTcVae, as it has no FactorVAE.
"""

import sys
import time
from collections.abc import Callable

import torch
from torch import nn

SHAPE = (3, 64, 64)


def convolutions() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 32, 4, 2, 1), nn.ReLU()),
        *(nn.Conv2d(32, 64, 2, 2), nn.ReLU(), nn.Conv2d(64, 64, 2, 2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(1024, 256), nn.ReLU()),
    )


def deconvolutions(num_latent: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Linear(num_latent, 256), nn.ReLU(), nn.Linear(256, 1024), nn.ReLU(), nn.Unflatten(1, (64, 4, 4))),
        *(nn.ConvTranspose2d(64, 64, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU()),
        *(nn.ConvTranspose2d(32, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 3, 4, 2, 1)),
    )


def pythae_step(batch_size: int, num_latent: int) -> Callable[[], None]:
    from pythae.models import FactorVAE, FactorVAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = convolutions()
            self.mean, self.logvar = nn.Linear(256, num_latent), nn.Linear(256, num_latent)

        def forward(self, images: torch.Tensor) -> ModelOutput:
            features = self.hidden(images)
            return ModelOutput(embedding=self.mean(features), log_covariance=self.logvar(features))

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = deconvolutions(num_latent)

        def forward(self, codes: torch.Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.layers(codes).sigmoid())

    config = FactorVAEConfig(input_dim=SHAPE, latent_dim=num_latent, reconstruction_loss="bce", gamma=10.0)
    model = FactorVAE(config, Encoder(), Decoder())
    model.discriminator = nn.Sequential(nn.Linear(num_latent, 1000), nn.LeakyReLU(0.2))
    for _ in range(5):
        model.discriminator.extend([nn.Linear(1000, 1000), nn.LeakyReLU(0.2)])
    model.discriminator.append(nn.Linear(1000, 2))
    autoencoder = torch.optim.Adam([*model.encoder.parameters(), *model.decoder.parameters()], lr=1e-4)
    discriminator = torch.optim.Adam(model.discriminator.parameters(), lr=1e-4)
    images = torch.rand(batch_size, *SHAPE)

    def step() -> None:
        output = model({"data": images})
        autoencoder.zero_grad()
        output.autoencoder_loss.backward(retain_graph=True)
        discriminator.zero_grad()
        output.discriminator_loss.backward()
        autoencoder.step()
        discriminator.step()
        output.loss.item()

    return step


def disent_step(batch_size: int, num_latent: int) -> Callable[[], None]:
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        # Its compiled part was built for another build of torch. disent only needs the other part, to read images.
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    from disent.frameworks.vae import BetaTcVae
    from disent.model import AutoEncoder, DisentDecoder, DisentEncoder

    class Encoder(DisentEncoder):
        def __init__(self) -> None:
            super().__init__(x_shape=SHAPE, z_size=num_latent, z_multiplier=2)
            self.layers = nn.Sequential(convolutions(), nn.Linear(256, 2 * num_latent))

        def encode(self, images: torch.Tensor) -> torch.Tensor:
            return self.layers(images)

    class Decoder(DisentDecoder):
        def __init__(self) -> None:
            super().__init__(x_shape=SHAPE, z_size=num_latent)
            self.layers = deconvolutions(num_latent)

        def decode(self, codes: torch.Tensor) -> torch.Tensor:
            return self.layers(codes)

    config = BetaTcVae.cfg(optimizer="adam", optimizer_kwargs={"lr": 1e-4}, beta=4, recon_loss="bce")
    framework = BetaTcVae(model=AutoEncoder(Encoder(), Decoder()), cfg=config)
    optimizer = framework.configure_optimizers()
    images = torch.rand(batch_size, *SHAPE)

    def step() -> None:
        # The work of Lightning's trainer for a batch, without callbacks; logging needs a trainer and is left out.
        optimizer.zero_grad()
        loss = framework.do_training_step({"x_targ": [images]}, 0)
        loss.backward()
        optimizer.step()

    framework.log = framework.log_dict = lambda *arguments, **settings: None
    return step


PEERS = {"pythae": pythae_step, "disent": disent_step}


if __name__ == "__main__":
    name, batch_size, num_latent, threads = sys.argv[1], *map(int, sys.argv[2:])
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    step = PEERS[name](batch_size, num_latent)
    print("ready", flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        for _ in range(int(line)):
            step()
        print(time.perf_counter() - started, flush=True)
