"""Checks of gin files and bindings before imports: one line for each mistake, none for valid files."""

import pytest

from disentanglement_challenge.config import gin_configuration, operative_bindings
from disentanglement_challenge.environment import GIN_FOLDER
from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.gin_checks import (
    bound,
    check_names,
    check_required,
    dataset_name,
    scoring_reach,
    training_reach,
    unused_bindings,
)
from disentanglement_challenge.gin_text import read_statements

TRAINED = sorted(
    str(path.relative_to(GIN_FOLDER))
    for path in GIN_FOLDER.rglob("*.gin")
    if path.name not in ("shared.gin", "report.gin", "scaled.gin")
)


def refused(files=(), bindings=()):
    with pytest.raises(ConfigError) as raised:
        statements = read_statements(files, bindings)
        check_names(statements)
        check_required(statements, training_reach(statements, "mpi3d_embedded"), files)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def told(*bindings, file="mpi3d_embedded.gin", scores=False, dataset="mpi3d_embedded"):
    """Return the bindings that are reported as unused."""
    statements = read_statements([file], bindings)
    check_names(statements)
    reaches = [training_reach(statements, dataset), *([scoring_reach(statements, dataset)] if scores else [])]
    return unused_bindings(statements, reaches)


@pytest.mark.parametrize(
    ("binding", "parts"),
    [
        ("a.b = relu", ["'a.b = relu'", "quotes"]),
        ("a.b = 'relu", ["quote"]),
        ("a.b = [1, 2", ["bracket"]),
        ("a.b =", ["value", "'='"]),
        ("a.b 3", ["name.parameter = value"]),
        ("a.b = 3 4", ["one binding"]),
        ("a..b = 3", ["'a..b'", "encoder.num_latent"]),
        ("3 = a", ["name", "encoder.num_latent = 10"]),
        ("a.b = @", ["reference", "@conv_encoder"]),
        ("include 'nothing.gin'", ["included file 'nothing.gin'", str(GIN_FOLDER)]),
        ("encoder.num_latents = 3", ["'encoder'", "'num_latents'", "did you mean 'num_latent'?"]),
        ("encoder.x = 3", ["'encoder'", "'x'", "num_latent, encoder_fn"]),
        ("vae.beta = @conv_encodr", ["'@conv_encodr'", "'conv_encoder'"]),
        ("model.model = @vae", ["@vae ", "write @vae()"]),
        ("encoder.encoder_fn = @conv_encoder()", ["@conv_encoder() ", "write @conv_encoder,"]),
        ("encoder.encoder_fn = 'conv_encoder'", ["'conv_encoder'", "@conv_encoder"]),
        ("num_latent = 3", ["macro %num_latent", "did you mean encoder.num_latent?"]),
        ("beta = 3", ["did you mean beta_tc_vae.beta or vae.beta?"]),
        ("training_stepz = 3", ["did you mean model.training_steps?"]),
        ("quite_something = 3", ["macro %quite_something", "name.parameter = value"]),
        ("model.batch_size = %N", ["macro %N", "N = "]),
        ("postprocess.random_seed = 0", ["postprocess", "disentanglement_lib", "encoder's mean"]),
        ("reduced_downstream_task.num_test = 5", ["downstream_task", "disentanglement_lib"]),
    ],
)
def test_a_binding_that_means_nothing(binding, parts):
    message = refused(["mpi3d_embedded.gin"], [binding])
    assert message.startswith(f"--gin_bindings {binding!r}")
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"\xef\xbb\xbfvae.beta = 3\n", ["mine.gin", "byte-order mark"]),
        (b"model.name = '\xe9'\n", ["mine.gin", "UTF-8"]),
        (b"include 'shared.gin'\nvae.beta = four\n", ["mine.gin, line 2: 'vae.beta = four'", "quotes"]),
        (b"vae.beta = 3\n\nvae\n", ["mine.gin, line 3: 'vae'", "name.parameter = value"]),
        (b"include 'sharde.gin'\n", ["mine.gin, line 1", "'sharde.gin'", "did you mean 'shared.gin'?"]),
        (b"include 'mine.gin'\n", ["mine.gin, line 1", "include 'mine.gin'"]),
        (b"include 'shared.gin'\nencodr.num_latent = 3\n", ["mine.gin, line 2", "'encodr'", "did you mean 'encoder'?"]),
        (b"encoder.num_latent = 3\n", ["mine.gin", 'include "mpi3d_embedded.gin"']),
        (
            b"model.model = @vae()\nvae.beta = 1.0\nmodel.training_steps = 5\nencoder.num_latent = 3\n",
            ["mine.gin", "decoder.decoder_fn", "3 more", 'include "shared.gin"'],
        ),
        (b"include 'mpi3d_embedded.gin'\nmodel.model = @vae()\n", ["mine.gin", "vae.beta", "--gin_bindings"]),
    ],
)
def test_a_file_that_means_nothing(tmp_path, content, parts):
    (tmp_path / "mine.gin").write_bytes(content)
    message = refused([str(tmp_path / "mine.gin")])
    for part in parts:
        assert part in message


def test_what_is_right_is_let_through(tmp_path):
    (tmp_path / "mine.gin").write_text(
        "# Windows ends lines otherwise.\r\ninclude 'mpi3d_embedded.gin'\r\nN = 5\r\nencoder.num_latent = %N\r\n"
        "spare = 3\r\nvae.beta = 4.0\r\nevaluation.evaluation_fn = None\r\n"
    )
    statements = read_statements([str(tmp_path / "mine.gin")], [])
    check_names(statements)
    check_required(statements, training_reach(statements, "mpi3d_embedded"), ["mine.gin"])
    assert bound(statements, "encoder", "num_latent") == 5
    # Unused bindings in files are not reported.
    assert unused_bindings(statements, [training_reach(statements, "mpi3d_embedded")]) == []


def test_a_name_that_a_file_imports_is_left_to_gin(tmp_path):
    (tmp_path / "mine.gin").write_text("import somebody.models\nencoder.encoder_fn = @their_encoder\n")
    check_names(read_statements(["mpi3d_embedded.gin", str(tmp_path / "mine.gin")], ["their_encoder.width = 3"]))


def test_bindings_that_a_run_does_not_use():
    assert told("vae.beta = 100.0") == ["'vae.beta = 100.0'"]
    assert told("vae.beta = 100.0", "model.model = @vae()") == []
    assert told("foo/encoder.num_latent = 3", "encoder.num_latent = 4") == ["'foo/encoder.num_latent = 3'"]
    assert told("factor_vae.gamma = 3.0", "fc_discriminator.width = 0.5", "checkpoints.keep = 1") == []
    # The file's binding with a scope overrides it.
    assert told("AdamOptimizer.beta1 = 0.3") == ["'AdamOptimizer.beta1 = 0.3'"]
    assert told("AdamOptimizer.epsilon = 0.3", "vae/AdamOptimizer.beta1 = 0.3") == []
    assert told("model.model = @bottleneck_vae()", "fc_discriminator.width = 0.5") == ["'fc_discriminator.width = 0.5'"]
    assert told("W = 0.5", "conv_encoder.width = %W") == []
    assert told("folder.path = 'a'") == ["\"folder.path = 'a'\""]
    assert told("folder.path = 'a'", dataset="folder") == []
    assert told("dci.num_train = 5", "encoder.num_latent = 3") == ["'dci.num_train = 5'"]
    assert told("dci.num_train = 5", "encoder.num_latent = 3", scores=True) == []


def test_the_name_of_the_data_set():
    for bindings, expected in (
        ([], "default"),
        (["dataset.name = 'cars3d'"], "cars3d"),
        (["D = 'cars3d'", "dataset.name = %D"], "cars3d"),
        (["D = %D", "dataset.name = %D"], "default"),
    ):
        assert dataset_name(read_statements(["mpi3d_embedded.gin"], bindings), "default") == expected


@pytest.mark.parametrize("file", TRAINED)
def test_what_training_is_said_to_read_is_what_it_reads(file, tmp_path):
    """The reference is gin's operative configuration of a run: each name, scope and bound parameter."""
    from squares import squares

    from disentanglement_challenge.export.model_file import more_formats
    from disentanglement_challenge.training.run import prepare, train
    from disentanglement_challenge.training.settings import TrainingSettings

    small = ["model.training_steps = 1", "model.batch_size = 4", "model.eval_steps = 1", "encoder.num_latent = 3"]
    small += [f"{name}.width = 0.1" for name in ("conv_encoder", "deconv_decoder", "fc_discriminator")]
    statements = read_statements([file], small)
    reach = training_reach(statements, "squares")
    with gin_configuration([file], small):
        more_formats()
        train(prepare(TrainingSettings(), Experiment(tmp_path), squares()))
        read = {name.rpartition(".")[0] for name in operative_bindings()}
    said = {f"{scope}/{name}" if scope else name for scope, name in reach.names}
    without_parameters = {
        "bernoulli_loss",
        "dataset",
    }  # gin does not record calls without parameters, and the data were given
    assert read - said == set()
    assert said - read <= without_parameters
