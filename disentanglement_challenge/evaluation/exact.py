"""The fast engine: the challenge's metrics computed from a table of representations, under the library's gin bindings.

Each metric here stands in for one gin-configurable function of disentanglement_lib and is set by that function's
bindings.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from disentanglement_challenge import library
from disentanglement_challenge.config import bound_parameters
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.evaluation.table import sample_codes, sampled_indices
from disentanglement_challenge.metrics.activity import compute_activity
from disentanglement_challenge.metrics.dci import compute_dci
from disentanglement_challenge.metrics.factor_vae import compute_factor_vae
from disentanglement_challenge.metrics.irs import compute_irs
from disentanglement_challenge.metrics.mig import compute_mig
from disentanglement_challenge.metrics.sap import compute_sap

Settings = dict[str, Any]
Results = tuple[dict[str, Any], NDArray[Any] | None]


@dataclass(frozen=True)
class ExactMetric:
    """A metric in parts.

    Attributes:
        compute: (data, representation_function, random_state, **settings) to results under the library's keys, and the
            latent by factor matrix that they come from, where there is one.
        sample: the same draws from the random state and the same representations asked for, and nothing else.
        settings: reads the settings from gin.
    """

    compute: Callable[..., Results]
    sample: Callable[..., object]
    settings: Callable[[], Settings]

    def images(self, ground_truth_data: IndexedGroundTruthData, random_seed: int) -> NDArray[np.int64]:
        """The indices of the images that the metric needs the representations of."""
        settings = self.settings()
        return sampled_indices(
            ground_truth_data,
            lambda data, representation: self.sample(data, representation, RandomState(random_seed), **settings),
        )

    def __call__(self, ground_truth_data: Any, representation_function: Any, random_state: RandomState) -> Results:
        """What `compute` returns under gin's settings."""
        return self.compute(ground_truth_data, representation_function, random_state, **self.settings())


def _sample(
    data: Any,
    representation_function: Any,
    random_state: RandomState,
    num_train: int,
    num_test: int = 0,
    batch_size: int = 16,
    **_: Any,
) -> None:
    for num_points in (num_train, num_test):
        sample_codes(data, representation_function, num_points, random_state, batch_size)


def _factor_vae_settings() -> Settings:
    return {**_bound("factor_vae_score")(), "prune_threshold": bound_parameters("prune_dims")["threshold"]}


def _sap_settings() -> Settings:
    settings = _bound("sap_score")()
    if settings.pop("continuous_factors"):
        raise ConfigError("sap_score.continuous_factors = True needs evaluation.engine = 'library'")
    return settings


def _discretized(name: str) -> Callable[[], Settings]:
    def settings() -> Settings:
        discretizer = bound_parameters("discretizer")
        function = discretizer["discretizer_fn"]
        if function.__name__ != "_histogram_discretize":
            raise ConfigError(f"discretizer.discretizer_fn = @{function.__name__} needs evaluation.engine = 'library'")
        return {**_bound(name)(), "num_bins": discretizer["num_bins"]}

    return settings


def _sample_beta_vae(
    data: Any,
    representation_function: Any,
    random_state: RandomState,
    batch_size: int,
    num_train: int,
    num_eval: int,
) -> None:
    for num_points in (num_train, num_eval):
        library.beta_vae._generate_training_batch(data, representation_function, batch_size, num_points, random_state)


def _without_matrix(compute: Callable[..., dict[str, Any]]) -> Callable[..., Results]:
    return lambda *arguments, **settings: (compute(*arguments, **settings), None)


def _bound(name: str) -> Callable[[], Settings]:
    return lambda: bound_parameters(name)


# By the name of the function that each stands in for: the challenge's five, and the library's others, which run as they
# are on the table.
EXACT_METRICS = {
    "compute_factor_vae": ExactMetric(compute_factor_vae, compute_factor_vae, _factor_vae_settings),
    "compute_dci": ExactMetric(compute_dci, _sample, _bound("dci")),
    "compute_sap": ExactMetric(compute_sap, _sample, _sap_settings),
    "compute_mig": ExactMetric(compute_mig, _sample, _discretized("mig")),
    "compute_irs": ExactMetric(compute_irs, _sample, _discretized("irs")),
    "compute_beta_vae_sklearn": ExactMetric(
        _without_matrix(library.beta_vae.compute_beta_vae_sklearn), _sample_beta_vae, _bound("beta_vae_sklearn")
    ),
    "compute_modularity_explicitness": ExactMetric(
        _without_matrix(library.modularity_explicitness.compute_modularity_explicitness),
        _sample,
        _bound("modularity_explicitness"),
    ),
    "unsupervised_metrics": ExactMetric(
        _without_matrix(library.unsupervised_metrics.unsupervised_metrics), _sample, _bound("unsupervised_metrics")
    ),
    "compute_activity": ExactMetric(_without_matrix(compute_activity), _sample, _bound("activity")),
}


def exact_metric(evaluation_fn: Callable[..., Any]) -> ExactMetric:
    """The stand-in for a function of disentanglement_lib; raises ConfigError where there is none."""
    name = evaluation_fn.__name__
    if name not in EXACT_METRICS:
        raise ConfigError(f"there is no exact engine for {name}; bind evaluation.engine = 'library'")
    return EXACT_METRICS[name]
