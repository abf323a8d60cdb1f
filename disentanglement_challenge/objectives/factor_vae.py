"""FactorVAE."""

import gin
import torch
from torch import Tensor, nn

from disentanglement_challenge.checks import check_number, check_switch
from disentanglement_challenge.models import initialise, make_discriminator
from disentanglement_challenge.objectives.objective import Codes, Objective, Regularization
from disentanglement_challenge.objectives.pass_back import discriminate, is_plain


@gin.configurable("factor_vae")
class FactorVAE(Objective):
    """KL + gamma * TC, the total correlation by a discriminator: Kim and Mnih, "Disentangling by Factorising", Eq. 2.

    As in disentanglement_lib the permuted codes come from the same batch. `second_batch` takes them from a second,
    independent batch, as the paper's algorithm 2 does: the discriminator then never sees one image's codes on both
    sides, at the price of encoding twice as many images.
    """

    def __init__(self, gamma: float = gin.REQUIRED, second_batch: bool = False):
        self.gamma = check_number("factor_vae.gamma", gamma, minimum=0)
        self.num_batches = 2 if check_switch("factor_vae.second_batch", second_batch) else 1

    def make_second_player(self, num_latent: int, generator: torch.Generator) -> nn.Module:
        """Build the discriminator of gin's `discriminator` bindings: codes [N, num_latent] -> logits [N, 2]."""
        discriminator = make_discriminator(num_latent)
        initialise(discriminator, generator)
        return discriminator

    def draw(self, shape: tuple[int, int], device: torch.device, generator: torch.Generator | None) -> Tensor:
        """Draw the uniform numbers [B, D] of `permute_codes`."""
        return torch.rand(shape, generator=generator, device=device)

    def __call__(self, codes: Codes, second_player: nn.Module | None = None) -> Regularization:
        """See `Objective.__call__`; logs the total correlation."""
        assert second_player is not None, "FactorVAE needs the second player that make_second_player makes"
        assert codes.drawn is not None, "FactorVAE needs the numbers that draw draws"
        z_to_permute = codes.z_sampled.detach() if codes.z_independent is None else codes.z_independent
        z_permuted = permute_codes(z_to_permute, codes.drawn)
        # Both halves in one pass: each layer's weights are read once, and there are half as many launches.
        is_apart = is_plain(second_player)
        if is_apart:
            assert isinstance(second_player, nn.Sequential)
            log_odds, all_log_odds = discriminate(second_player, codes.z_sampled, z_permuted)
        else:
            logits = second_player(torch.cat([codes.z_sampled, z_permuted]))
            all_log_odds = logits[:, 0] - logits[:, 1]
            log_odds = all_log_odds[: len(codes.z_sampled)]
        tc = log_odds.mean()
        of_real, of_permuted = all_log_odds.chunk(2)
        real, permuted = clipped_log_probabilities(of_real), clipped_log_probabilities(-of_permuted)
        return Regularization(
            regularizer=codes.kl_loss + self.gamma * tc,
            terms={"total_correlation": tc},
            second_player_loss=-0.5 * (real.mean() + permuted.mean()),
            is_apart=is_apart,
        )


def permute_codes(z: Tensor, uniform: Tensor) -> Tensor:
    """Permute each latent over the batch independently: Kim and Mnih, algorithm 1.

    Args:
        z: [B, D].
        uniform: [B, D], uniform and independent; the order of a column's numbers is that of the permutation.

    Returns:
        [B, D], every column with the values it had, in an order independent of the others'.
    """
    return z.gather(0, uniform.argsort(dim=0))


def clipped_log_probabilities(log_odds: Tensor) -> Tensor:
    """Return logarithms of disentanglement_lib's clipped softmax, each in [log(1e-6), log(1 - 1e-6)]: [N] -> [N].

    The first probability of a softmax of two logits is the sigmoid of their difference. Not logsigmoid: beyond the clip
    the loss is flat, and a sample the discriminator is certain of has no gradient.
    """
    return log_odds.sigmoid().clamp(1e-6, 1 - 1e-6).log()
