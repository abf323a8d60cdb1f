"""A data set of 32 images that a small VAE learns in seconds, and experiments with it."""

import numpy as np
from quick_scores import quick_scores

from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData

SMALL = [
    "model.model = @factor_vae()",
    "model.batch_size = 8",
    "model.training_steps = 12",
    "model.eval_steps = 2",
    "factor_vae.gamma = 5.0",
    "encoder.num_latent = 3",
    "conv_encoder.width = 0.125",
    "deconv_decoder.width = 0.125",
    "fc_discriminator.width = 0.02",
]
QUICK_SCORES = ["dataset.name = 'squares'", *quick_scores(200)]


def squares():
    """Make images of a bright square in one of 16 places, in one of 2 colours."""
    images = np.zeros((32, 64, 64, 3), np.uint8)
    for index, image in enumerate(images):
        color, row, column = np.unravel_index(index, (2, 4, 4))
        image[16 * row : 16 * row + 16, 16 * column : 16 * column + 16, [0, 2][color]] = 255
    return IndexedGroundTruthData("squares", images, [2, 4, 4], ["color", "row", "column"])


def train_and_score(experiment, monkeypatch, *bindings):
    """Make a whole run like run.py, with these bindings added to the small ones."""
    from disentanglement_challenge.config import gin_configuration
    from disentanglement_challenge.data import named
    from disentanglement_challenge.evaluation.harness import evaluate
    from disentanglement_challenge.training.run import train_and_export

    monkeypatch.setitem(named.LOADERS, "squares", lambda name, path: squares())
    everything = [*SMALL, *QUICK_SCORES, *bindings]
    with gin_configuration(["shared.gin"], everything):
        train_and_export(experiment, overwrite=False)
    evaluate(experiment, ["shared.gin"], everything)
