"""The settings of disentanglement_lib's own study, and the starter kit's seventh, through gin."""

import gin
import pytest
from disentanglement_lib.config.unsupervised_study_v1 import sweep
from disentanglement_lib.utils.hyperparams import to_bindings

from disentanglement_challenge import objectives
from disentanglement_challenge.config import gin_configuration

SETTINGS = sweep.get_default_models()
CLASSES = {
    "beta_vae": objectives.BetaVAE,
    "annealed_vae": objectives.AnnealedVAE,
    "factor_vae": objectives.FactorVAE,
    "dip_vae_i": objectives.DIPVAE,
    "dip_vae_ii": objectives.DIPVAE,
    "beta_tc_vae": objectives.BetaTCVAE,
}


@gin.configurable("objective_of_a_setting", module="tests")
def objective_of_a_setting(model=gin.REQUIRED, name=gin.REQUIRED):
    """Stands where training's `model` does, which this stage does not import."""
    return model, name


def build(setting):
    bindings = [binding.replace("model.", "objective_of_a_setting.", 1) if binding.startswith("model.") else binding
                for binding in to_bindings(setting)]  # fmt: skip
    with gin_configuration(bindings=bindings):
        return objective_of_a_setting()


def test_there_are_the_study_s_36_settings_of_six_models():
    assert len(SETTINGS) == 36
    assert {setting["model.name"] for setting in SETTINGS} == set(CLASSES)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: " ".join(map(str, setting.values())))
def test_every_setting_of_the_study_builds_its_objective(setting):
    objective, name = build(setting)
    assert isinstance(objective, CLASSES[name])
    for key, value in setting.items():
        configurable, parameter = key.split(".")
        if parameter == "lambda_d_factor":
            assert objective.lambda_d == value * setting["dip_vae.lambda_od"]
        elif configurable not in ("model", "discriminator"):
            assert getattr(objective, parameter) == value


def test_the_starter_kit_s_bottleneck_vae():
    objective, _ = build(
        {
            "model.name": "bottleneck_vae",
            "model.model": "@bottleneck_vae()",
            "bottleneck_vae.gamma": 10.0,
            "bottleneck_vae.target": 25.0,
        }
    )
    assert isinstance(objective, objectives.BottleneckVAE)
    assert (objective.gamma, objective.target) == (10.0, 25.0)
