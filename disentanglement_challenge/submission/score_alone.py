"""Score a representation function as the evaluator does, without this package: copy this file elsewhere and run it.

    python -I score_alone.py pytorch_model.pt images.npy 4,4,2,3,3,10,10

The images are uint8 [N, height, width, channels], one for each combination of factors of these sizes, in order. It
prints a line of JSON. The scores are disentanglement_lib's, on so few points that they only show that scoring works.
DCI and SAP are left out: they take minutes for thousands of latents, and call the function like the other three.
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
        sys.exit(f"error: {PACKAGE} can be imported here; copy this file elsewhere and start it with python -I")
    images = np.load(images_path, mmap_mode="r")
    model = torch.jit.load(model_path, map_location="cpu").eval()

    def representation_function(observations: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model(torch.from_numpy(observations).permute(0, 3, 1, 2)).numpy()

    check_function(representation_function, images[:: len(images) // 16][:16].astype(np.float32) / 255)
    return scores(representation_function, images, factor_sizes)


def check_function(representation_function, observations) -> None:  # type: ignore[no-untyped-def]
    """End the process unless the representation is float [N, num_latent], finite, and a function of each image."""
    codes = representation_function(observations)
    if codes.ndim != 2 or len(codes) != len(observations) or not np.issubdtype(codes.dtype, np.floating):
        sys.exit(
            f"error: the representation of images {observations.shape} is {codes.dtype} of shape {codes.shape}; it "
            "must be float of shape (N, num_latent)"
        )
    if not np.isfinite(codes).all():
        sys.exit("error: the representation has NaN or infinite values; all must be finite")
    alone = np.concatenate([representation_function(observation[None]) for observation in observations])
    if not np.allclose(alone, codes, rtol=1e-3, atol=1e-4):
        sys.exit("error: the representation of an image depends on the batch or is random; it must depend on the image")


def scores(representation_function, images, factor_sizes) -> dict[str, float]:  # type: ignore[no-untyped-def]
    # disentanglement_lib 1.5 cannot be imported with today's packages. The stand-in beside this file makes it possible;
    # it is a copy of a module of the package and imports no other module of it.
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
