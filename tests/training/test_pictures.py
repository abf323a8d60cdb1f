"""The pictures of a VAE against its checkpoint, by hand; and that drawing them changes nothing else."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from squares import SMALL, squares
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_loop import resumed, run

from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.errors import ConfigError, DataError
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.models import make_vae
from disentanglement_challenge.training.checkpoints import newest_first, read_checkpoint
from disentanglement_challenge.training.pictures import draw_pictures, read_pictures, traverse, write_pictures

WIDE = "encoder.num_latent = 20"


def vae_of(experiment, *bindings):
    """The trained VAE, from its newest checkpoint."""
    with gin_configuration(["shared.gin"], [*SMALL, *bindings]):
        vae = make_vae((3, 64, 64), torch.Generator())
    vae.load_state_dict(read_checkpoint(newest_first(experiment.checkpoints)[0]).state["step"]["players"][0]["network"])
    return vae


@torch.no_grad()
def decoded(vae, codes):
    """Codes [N, D] through the decoder as intensities from 0 to 255, [N, height, width, channels]."""
    return 255 * torch.sigmoid(vae.decode(torch.as_tensor(codes))).permute(0, 2, 3, 1).numpy()


@torch.no_grad()
def encoded(vae, images):
    """uint8 images [N, height, width, channels] to (z_mean, z_logvar)."""
    return vae.encode(torch.from_numpy(images.astype(np.float32) / np.float32(255)).permute(0, 3, 1, 2))


@pytest.fixture(name="squares", scope="module")
def make_squares():
    return squares()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, squares):
    experiment = Experiment(tmp_path_factory.mktemp("trained"))
    run(experiment.path, squares, WIDE, "model.training_steps = 30", "vae/AdamOptimizer.learning_rate = 0.003")
    return read_pictures(experiment.pictures), vae_of(experiment, WIDE)


def test_originals_are_images_and_reconstructions_what_decoder_and_encoder_make_of_them(trained, squares):
    pictures, vae = trained
    assert pictures.step == 30
    assert all((squares.images == original).all(axis=(1, 2, 3)).any() for original in pictures.originals)
    assert len(np.unique(pictures.originals, axis=0)) > 1
    z_mean, _ = encoded(vae, pictures.originals)
    # A pixel between two integers may go either way.
    np.testing.assert_allclose(pictures.reconstructions, decoded(vae, z_mean), atol=0.51)


def test_kl_and_variance_are_those_of_the_images(trained, squares):
    pictures, vae = trained
    assert pictures.num_images == 32
    z_mean, z_logvar = (code.double() for code in encoded(vae, squares.images))
    posterior = torch.distributions.Normal(z_mean, torch.exp(z_logvar / 2))
    kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
    np.testing.assert_allclose(pictures.kl, kl.mean(dim=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(pictures.variance, z_mean.var(dim=0, correction=0), rtol=1e-4)


def test_of_a_larger_data_set_they_are_taken_over_a_thousand_random_images(trained):
    """Here 1280 images, of which every other one is black."""
    _, vae = trained
    images = np.random.default_rng(0).integers(256, size=(1280, 64, 64, 3), dtype=np.uint8)
    images[::2] = 0
    data = IndexedGroundTruthData("many", images, [1280], ["image"])
    pictures = draw_pictures(vae, "logits", data, torch.device("cpu"), step=0)
    assert pictures.num_images == 1024
    z_mean, z_logvar = (code.double() for code in encoded(vae, images))
    kl = 0.5 * (z_mean**2 + z_logvar.exp() - z_logvar - 1)
    # Six standard errors of a mean over 1024 images.
    assert (np.abs(pictures.kl - kl.mean(dim=0).numpy()) < 6 * kl.std(dim=0).numpy() / 32).all()
    again = draw_pictures(vae, "logits", data, torch.device("cpu"), step=0)
    np.testing.assert_array_equal(pictures.kl, again.kl)
    np.testing.assert_array_equal(pictures.originals, again.originals)


def test_traversals_set_one_latent_at_a_time_the_largest_kl_first(trained):
    pictures, vae = trained
    assert pictures.traversals.shape == (16, 11, 64, 64, 3)
    assert list(pictures.traversed) == list(np.argsort(-pictures.kl, kind="stable")[:16])
    assert (pictures.values[0], pictures.values[-1]) == (-2, 2)
    z_mean, _ = encoded(vae, pictures.originals[:1])
    for row, latent in enumerate(pictures.traversed):
        codes = np.repeat(z_mean.numpy(), 11, axis=0)
        codes[:, latent] = pictures.values
        np.testing.assert_allclose(pictures.traversals[row], decoded(vae, codes), atol=0.51)


def test_a_latent_set_to_its_own_mean_gives_the_reconstruction(trained):
    pictures, vae = trained
    z_mean, _ = encoded(vae, pictures.originals[:1])
    for latent in pictures.traversed:
        codes = traverse(z_mean[0], torch.tensor([latent]), z_mean[0, latent, None])
        assert codes.shape == (1, 1, 20)
        np.testing.assert_allclose(decoded(vae, codes[0])[0], pictures.reconstructions[0], atol=0.51)


def test_samples_are_decoded_from_standard_normal_codes(trained):
    pictures, vae = trained
    codes = torch.randn(40, 20, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(pictures.samples, decoded(vae, codes), atol=0.51)


def test_the_tanh_activation_is_the_networks_own(tmp_path, squares):
    bindings = ["reconstruction_loss.loss_fn = @l2_loss", "reconstruction_loss.activation = 'tanh'"]
    run(tmp_path, squares, *bindings)
    pictures, vae = read_pictures(Experiment(tmp_path).pictures), vae_of(Experiment(tmp_path))
    z_mean, _ = encoded(vae, pictures.originals)
    with torch.no_grad():
        outputs = vae.decode(z_mean).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(pictures.reconstructions, 255 * (np.tanh(outputs.astype(float)) + 1) / 2, atol=0.51)


def test_grey_images_stay_grey(tmp_path, squares):
    grey = IndexedGroundTruthData("grey", squares.images[..., :1], [2, 4, 4], ["color", "row", "column"])
    run(tmp_path, grey)
    pictures = read_pictures(Experiment(tmp_path).pictures)
    assert pictures.reconstructions.shape == (10, 64, 64, 1)
    events = EventAccumulator(str(tmp_path / "train")).Reload()
    with Image.open(io.BytesIO(events.Images("samples")[0].encoded_image_string)) as image:
        assert (image.mode, image.size) == ("L", (640, 256))


def test_drawing_at_every_step_changes_neither_weights_nor_random_streams(tmp_path, squares):
    never, always = tmp_path / "never", tmp_path / "always"
    assert torch.equal(run(never, squares), run(always, squares, "pictures.every_steps = 1"))
    one, other = (read_checkpoint(newest_first(Experiment(path).checkpoints)[0]).state for path in (never, always))
    assert one["random"] == other["random"]
    assert torch.equal(one["torch"], other["torch"])
    assert torch.equal(one["step"]["noise"], other["step"]["noise"])
    # And a run may be gone on with at another interval.
    straight = run(tmp_path / "straight", squares, "model.training_steps = 15")
    longer = resumed(never, never, squares, "model.training_steps = 15", "pictures.every_steps = 3")
    assert torch.equal(straight, longer)
    assert read_pictures(Experiment(never).pictures).step == 15


def test_tensorboard_gets_pictures_at_the_interval_and_at_the_end(tmp_path, squares):
    run(tmp_path, squares, "pictures.every_steps = 5")
    events = EventAccumulator(str(tmp_path / "train"), size_guidance={"images": 0}).Reload()
    assert set(events.Tags()["images"]) == {"reconstructions", "traversals", "samples"}
    for tag, pixels in (("reconstructions", (640, 128)), ("traversals", (704, 192)), ("samples", (640, 256))):
        shown = events.Images(tag)
        assert [event.step for event in shown] == [5, 10, 12]
        for event in shown:
            with Image.open(io.BytesIO(event.encoded_image_string)) as image:
                assert image.size == (event.width, event.height) == pixels
    with Image.open(io.BytesIO(events.Images("reconstructions")[-1].encoded_image_string)) as image:
        pictures = read_pictures(Experiment(tmp_path).pictures)
        np.testing.assert_array_equal(np.array(image)[64:, :64], pictures.reconstructions[0])


@pytest.mark.parametrize("interval", ["0", "-1", "2.5", "'often'", "True"])
def test_an_interval_that_is_none_costs_nothing(tmp_path, squares, interval):
    with pytest.raises(ConfigError, match=r"pictures\.every_steps is"):
        run(tmp_path, squares, f"pictures.every_steps = {interval}")
    assert list(tmp_path.iterdir()) == []


def test_damaged_files_are_refused_and_pickles_not_opened(tmp_path, trained):
    pictures, _ = trained
    path = tmp_path / "pictures.npz"
    write_pictures(path, pictures)
    whole = path.read_bytes()
    for content in (b"", b"no npz", whole[: len(whole) // 2], bytes(len(whole))):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"pictures\.npz: "):
            read_pictures(path)
    arrays = {name: np.asarray(value) for name, value in vars(pictures).items()}
    for name, value, message in [
        ("kl", np.array([object()], dtype=object), r"pictures\.npz: "),
        ("kl", np.zeros(3, np.float32), "do not fit"),
        ("traversed", np.array([0, 99] * 8), "do not fit"),
        ("samples", np.zeros((4, 8, 8, 3), np.uint8), "do not fit"),
        ("originals", arrays["originals"].astype(np.float32), "do not fit"),
    ]:
        np.savez(path, **{**arrays, name: value})
        with pytest.raises(DataError, match=message):
            read_pictures(path)
    np.savez(path, **{name: value for name, value in arrays.items() if name != "samples"})
    with pytest.raises(DataError, match="does not hold the pictures"):
        read_pictures(path)
