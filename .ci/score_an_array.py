"""Scores an array with an installation that has none of the extras; .ci/run starts it from an empty folder."""

import importlib.util

import numpy as np

from disentanglement_challenge import score

for package in ("tensorflow", "onnx", "onnxruntime", "ray", "huggingface_hub", "wandb", "mlflow"):
    assert importlib.util.find_spec(package) is None, f"{package} is installed"

factors = np.stack(np.unravel_index(np.arange(4 * 3 * 5), (4, 3, 5)), axis=1)
noise = np.random.RandomState(0).randn(len(factors), 3)
np.save("codes.npy", factors.astype(float))
np.save("factors.npy", factors)

scores = score(factors.astype(float), factors)
assert set(scores.as_dict()) >= {"factor_vae_metric", "dci", "sap_score", "mig", "irs"}, scores.as_dict()
assert scores["factor_vae_metric"] == 1.0, scores.as_dict()
assert scores["mig"] > 0.99, scores.as_dict()
assert score(noise, factors)["mig"] < 0.5
print(scores.as_dict())
