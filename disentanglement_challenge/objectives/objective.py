"""The interface of objectives.

The loss of every VAE of the report's Table 4 is a reconstruction loss plus a regularizer. An objective is the
regularizer. To add one: a file with a class that is registered with gin, checks its hyperparameters in the constructor
and overrides `regularizer`; then the class in this package's `__init__`. The loop adds, updates and logs.

On a GPU the step is recorded once, as a CUDA graph, and replayed. So an objective computes with tensors alone: what it
keeps in Python, such as a count of its calls, stays what it was when the step was recorded, and a read of a tensor's
value (`float(tensor)`, `if tensor > 0`) cannot be recorded. What changes over the steps follows from `Codes.step`. The
first replayed step is compared with an eager one, and training refuses one that differs; `acceleration.cuda_graph =
False` trains without a graph.

Several seeds of one configuration can share a step (`training.stacked`): the objective then computes under
`torch.vmap`, sees one seed's codes like any others, and takes its random numbers from `draw` alone.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Codes:
    """The codes of a batch in a training step.

    Attributes:
        z_mean, z_logvar: [B, D], from the encoder.
        z_sampled: [B, D], drawn from them.
        kl_loss: scalar, `kl.gaussian_kl` averaged over the batch.
        step: updates made before this one, from 0: an integer, or a 0-d tensor where a step is replayed from a graph or
            shared by several seeds.
        z_independent: [B, D], codes of a batch drawn apart from this one, without gradient; None unless the objective's
            `num_batches` is 2.
        drawn: what `Objective.draw` drew for this step.
        num_images: of the data set; None where it is not known.
    """

    z_mean: Tensor
    z_logvar: Tensor
    z_sampled: Tensor
    kl_loss: Tensor
    step: int | Tensor
    z_independent: Tensor | None = None
    drawn: Tensor | None = None
    num_images: int | None = None


@dataclass(frozen=True)
class Regularization:
    """The losses that an objective computes from the codes.

    Attributes:
        regularizer: scalar; with the reconstruction loss, what encoder and decoder minimise.
        terms: named scalars worth logging beside it.
        second_player_loss: scalar that the second player minimises, over its own parameters; None where there is none.
        constant: what the regularizer leaves out, as it has no gradient, and what is logged adds.
        is_apart: whether the gradient of each loss reaches its own player's parameters and no other's, so that one pass
            back serves both.
    """

    regularizer: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)
    second_player_loss: Tensor | None = None
    constant: float = 0.0
    is_apart: bool = False


class Objective:
    """A regularizer, optionally with a second player that is trained against the VAE.

    Attributes:
        num_batches: how many batches a step draws: 1, or 2 for an objective that needs `Codes.z_independent`.
    """

    num_batches = 1

    def regularizer(self, codes: Codes) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the scalar to add to the reconstruction loss, and named scalars to log."""
        raise NotImplementedError(f"{type(self).__name__} overrides neither regularizer nor __call__")

    def constant(self, codes: Codes) -> float:
        """Return the constant that the regularizer omits because it has no gradient; 0 by default."""
        return 0.0

    def make_second_player(self, num_latent: int, generator: torch.Generator) -> nn.Module | None:
        """Build a second player for codes [N, num_latent] with weights from the generator; return None by default."""
        return None

    def draw(self, shape: tuple[int, int], device: torch.device, generator: torch.Generator | None) -> Tensor | None:
        """Draw the random numbers of a step with codes of this shape, [B, D]; return None by default."""
        return None

    def __call__(self, codes: Codes, second_player: nn.Module | None = None) -> Regularization:
        """Return the regularizer and the second player's loss. Only an objective with a second player overrides this.

        Both losses are taken at the same parameters, before either player moves, and share a graph: call `backward` on
        each with `inputs=` the parameters of its own player.

        Args:
            codes: of one batch.
            second_player: what `make_second_player` made.
        """
        regularizer, terms = self.regularizer(codes)
        return Regularization(regularizer, terms, constant=self.constant(codes))
