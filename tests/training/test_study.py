"""disentanglement_lib's study, unsupervised_study_v1, as the installed library has it: every model setting trains."""

import json
from importlib import resources

import numpy as np
import pytest
from disentanglement_lib.config.unsupervised_study_v1 import sweep
from disentanglement_lib.utils.hyperparams import to_bindings

from disentanglement_challenge import objectives
from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.training.run import prepare, train
from disentanglement_challenge.training.settings import TrainingSettings

SETTINGS = sweep.get_default_models()
CLASSES = {
    "beta_vae": objectives.BetaVAE,
    "annealed_vae": objectives.AnnealedVAE,
    "factor_vae": objectives.FactorVAE,
    "dip_vae_i": objectives.DIPVAE,
    "dip_vae_ii": objectives.DIPVAE,
    "beta_tc_vae": objectives.BetaTCVAE,
}
STEPS = 3
CONFIG = str(resources.files(sweep.__package__) / "model_configs" / "shared.gin")


@pytest.fixture(scope="module")
def noise():
    images = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), dtype=np.uint8)
    return IndexedGroundTruthData("noise", images, [16], ["image"])


def test_there_are_the_study_s_36_settings_of_six_models():
    assert len(SETTINGS) == 36
    assert {setting["model.name"] for setting in SETTINGS} == set(CLASSES)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: " ".join(map(str, setting.values())))
def test_every_model_setting_of_the_study_trains_its_objective(setting, noise, tmp_path):
    few_steps = [f"model.training_steps = {STEPS}", "model.batch_size = 4", "model.eval_steps = 1"]
    with gin_configuration([CONFIG], [*to_bindings(setting), "model.random_seed = 0", *few_steps]):
        settings = TrainingSettings()
        train(prepare(settings, Experiment(tmp_path), noise))
    assert isinstance(settings.model, CLASSES[settings.name])
    for key, value in setting.items():
        configurable, parameter = key.split(".")
        if parameter == "lambda_d_factor":
            assert settings.model.lambda_d == value * setting["dip_vae.lambda_od"]
        elif configurable not in ("model", "discriminator"):
            assert getattr(settings.model, parameter) == value
    losses = json.loads((tmp_path / "train" / "losses.json").read_text())
    assert losses["step"] == STEPS
    assert all(np.isfinite(value) for value in losses.values())
