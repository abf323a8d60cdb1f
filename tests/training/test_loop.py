import json

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.errors import ConfigError, TrainingError
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.training.loop import train

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


@pytest.fixture
def squares():
    """A bright square in one of 16 places, in one of 2 colours."""
    images = np.zeros((32, 64, 64, 3), np.uint8)
    for index, image in enumerate(images):
        color, row, column = np.unravel_index(index, (2, 4, 4))
        image[16 * row : 16 * row + 16, 16 * column : 16 * column + 16, [0, 2][color]] = 255
    return IndexedGroundTruthData("squares", images, [2, 4, 4], ["color", "row", "column"])


def run(path, data, *bindings):
    with gin_configuration(["shared.gin"], [*SMALL, *bindings]):
        vae = train(Experiment(path), data)
    return torch.cat([parameter.detach().flatten() for parameter in vae.parameters()])


def test_the_same_seed_gives_the_same_weights(tmp_path, squares):
    first, again = run(tmp_path / "a", squares), run(tmp_path / "b", squares)
    other = run(tmp_path / "c", squares, "model.random_seed = 1")
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_training_learns(tmp_path, squares):
    for steps, name in ((1, "short"), (150, "long")):
        run(
            tmp_path / name,
            squares,
            f"model.training_steps = {steps}",
            "vae/AdamOptimizer.learning_rate = 0.003",
        )
    short, long = (json.loads((tmp_path / name / "train" / "losses.json").read_text()) for name in ("short", "long"))
    assert long["step"] == 150
    assert long["reconstruction_loss"] < 0.3 * short["reconstruction_loss"]


def test_what_a_run_leaves(tmp_path, squares):
    run(tmp_path, squares, "model.training_steps = 150")
    losses = json.loads((tmp_path / "train" / "losses.json").read_text())
    assert losses["elbo"] == pytest.approx(-losses["reconstruction_loss"] - losses["kl_loss"], rel=1e-5)
    events = EventAccumulator(str(tmp_path / "train")).Reload()
    assert {"loss", "reconstruction_loss", "kl_loss", "total_correlation", "discriminator_loss"} <= set(
        events.Tags()["scalars"]
    )
    assert [event.step for event in events.Scalars("loss")] == [100, 150]


def test_the_saved_configuration_trains_the_same_weights_again(tmp_path, squares):
    first = run(tmp_path / "a", squares)
    with gin_configuration([str(tmp_path / "a" / "train" / "config.gin")]):
        vae = train(Experiment(tmp_path / "b"), squares)
    assert torch.equal(first, torch.cat([parameter.detach().flatten() for parameter in vae.parameters()]))


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("model.training_steps = 0", r"model\.training_steps is 0"),
        ("model.training_steps = -5", r"model\.training_steps is -5"),
        ("model.training_steps = 1.5", r"model\.training_steps is 1\.5"),
        ("model.batch_size = 0", r"model\.batch_size is 0"),
        ("model.random_seed = -1", r"model\.random_seed is -1"),
        ("model.model = 'factor_vae'", "bind it to an objective"),
        ("model.model = @factor_vae", "bind it to an objective"),
        ("encoder.num_latent = 0", "num_latent"),
    ],
)
def test_a_number_out_of_range_costs_nothing(tmp_path, squares, binding, message):
    experiment = Experiment(tmp_path)
    experiment.train.mkdir(parents=True)
    (experiment.train / "kept").write_text("an earlier run")
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, squares, binding)
    assert (experiment.train / "kept").exists()


def test_a_loss_that_is_no_number_stops_the_run(tmp_path, squares):
    with pytest.raises(TrainingError, match=r"loss is nan|loss is inf|loss is -inf"):
        run(tmp_path, squares, "vae/AdamOptimizer.learning_rate = 1e30")
    assert not (tmp_path / "train" / "losses.json").exists()
