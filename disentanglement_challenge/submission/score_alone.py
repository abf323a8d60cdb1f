"""Scores a representation function as the evaluator does, without this package: only its copy elsewhere can be run.

    python -I score_alone.py pytorch_model.pt images.npy 4,4,2,3,3,10,10

The images are uint8 [N, height, width, channels], one for each combination of the factors, of these sizes and in this
order. Prints a line of JSON. The scores are disentanglement_lib's, of so few points that they say only that there are
some. Its DCI and SAP, which take minutes for thousands of latents, see nothing of the function that the other three do
not.
"""

import importlib.util
import json
import os
import sys

import numpy as np
import torch

PACKAGE = "disentanglement_challenge"
POINTS = 100


def main(model_path: str, images_path: str, factor_sizes: list[int]) -> dict[str, float]:
    if importlib.util.find_spec(PACKAGE) is not None:
        sys.exit(f"error: {PACKAGE} can be imported here, so this shows nothing; start it by python -I, from elsewhere")
    images = np.load(images_path, mmap_mode="r")
    model = torch.jit.load(model_path, map_location="cpu").eval()

    def representation_function(observations: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model(torch.from_numpy(observations).permute(0, 3, 1, 2)).numpy()

    check_function(representation_function, images[:: len(images) // 16][:16].astype(np.float32) / 255)
    return scores(representation_function, images, factor_sizes)


def check_function(representation_function, observations) -> None:  # type: ignore[no-untyped-def]
    """Ends the process where the representation is not float [N, num_latent], finite, and a function of each image."""
    codes = representation_function(observations)
    if codes.ndim != 2 or len(codes) != len(observations) or not np.issubdtype(codes.dtype, np.floating):
        sys.exit(f"error: {observations.shape} images give {codes.dtype} of shape {codes.shape}, not (N, num_latent)")
    if not np.isfinite(codes).all():
        sys.exit("error: the representation holds NaN or infinity")
    alone = np.concatenate([representation_function(observation[None]) for observation in observations])
    if not np.allclose(alone, codes, rtol=1e-3, atol=1e-4):
        sys.exit("error: an image has another representation alone than in a batch")


def scores(representation_function, images, factor_sizes) -> dict[str, float]:  # type: ignore[no-untyped-def]
    # disentanglement_lib 1.5 does not import on a stack of today as it is. The file that helps it is the package's, and
    # lies beside this one: it imports nothing else of it.
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    with importlib.import_module("tensorflow_stand_in").importing_library():
        import gin
        from disentanglement_lib.data.ground_truth.ground_truth_data import GroundTruthData
        from disentanglement_lib.evaluation.metrics import factor_vae, irs, mig, utils  # noqa: F401 (gin finds discretizers in utils)

    class Data(GroundTruthData):
        num_factors = len(factor_sizes)
        factors_num_values = factor_sizes
        observation_shape = images.shape[1:]

        def sample_factors(self, num, random_state):  # type: ignore[no-untyped-def]
            return np.stack([random_state.randint(size, size=num) for size in factor_sizes], axis=1)

        def sample_observations_from_factors(self, factors, random_state):  # type: ignore[no-untyped-def]
            return images[np.ravel_multi_index(factors.T, factor_sizes)].astype(np.float32) / 255

    gin.parse_config("discretizer.discretizer_fn = @histogram_discretizer\ndiscretizer.num_bins = 20")
    gin.parse_config("prune_dims.threshold = 0.05")
    np.random.seed(0)
    common = (Data(), representation_function, np.random.RandomState(0), None)
    results = {
        **factor_vae.compute_factor_vae(
            *common, batch_size=16, num_train=POINTS, num_eval=POINTS, num_variance_estimate=POINTS
        ),
        **mig.compute_mig(*common, num_train=POINTS),
        **irs.compute_irs(*common, num_train=POINTS, batch_size=16),
    }
    keys = {"factor_vae_metric": "eval_accuracy", "mig": "discrete_mig", "irs": "IRS"}
    return {metric: float(results[key]) for metric, key in keys.items()}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], [int(size) for size in sys.argv[3].split(",")])))
