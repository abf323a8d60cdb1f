"""The names that gin files may bind, without importing the modules that register them.

So a misspelt name is refused before PyTorch is imported. A test compares these tables with the registered names and
parameters; "!" marks a parameter without a default.
"""


def _table(text: dict[str, str]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(parameters.split()) for name, parameters in text.items()}


# Read by training, and, for the data set, by both stages.
TRAINING = _table(
    {
        "acceleration": "precision cuda_graph",
        "AdamOptimizer": "learning_rate beta1 beta2 epsilon name use_locking",
        "BottleneckVAE": "gamma! target!",
        "annealed_vae": "gamma! c_max! iteration_threshold!",
        "bernoulli_loss": "subtract_true_image_entropy",
        "beta_tc_vae": "beta!",
        "bottleneck_vae": "gamma! target!",
        "checkpoints": "every_minutes keep",
        "conv_encoder": "activation width",
        "dataset": "name",
        "decoder": "decoder_fn!",
        "deconv_decoder": "activation width",
        "dip_vae": "lambda_od! lambda_d_factor! dip_type",
        "discriminator": "discriminator_fn!",
        "discriminator_optimizer": "optimizer_fn! learning_rate",
        "encoder": "num_latent! encoder_fn!",
        "export": "formats",
        "factor_vae": "gamma! second_batch",
        "fc_decoder": "activation width",
        "fc_discriminator": "activation width",
        "fc_encoder": "activation width",
        "folder": "path cache resize",
        "l2_loss": "",
        "log": "every_steps bar_terms",
        "model": "model! batch_size! training_steps! random_seed! eval_steps time_limit name model_num",
        "pictures": "every_steps",
        "reconstruction_loss": "loss_fn! activation",
        "residual_decoder": "activation base_channels blocks_per_stage",
        "residual_encoder": "activation base_channels blocks_per_stage",
        "trackers": "use",
        "vae": "beta!",
        "vae_optimizer": "optimizer_fn! learning_rate",
    }
)

# Read by scoring, in addition to the data set's.
EVALUATION = _table(
    {
        "activity": "num_train batch_size threshold",
        "beta_vae_sklearn": "batch_size! num_train! num_eval!",
        "dci": "num_train! num_test! batch_size",
        "dci_validation": "train_percentage! batch_size",
        "downstream_task": "num_train! num_test! batch_size",
        "discretizer": "num_bins! discretizer_fn!",
        "evaluation": "evaluation_fn random_seed name engine",
        "factor_vae_score": "batch_size! num_train! num_eval! num_variance_estimate!",
        "fairness": "num_train! num_test_points_per_class! batch_size",
        "gradient_boosting_classifier": "",
        "histogram_discretizer": "num_bins!",
        "infoc": "num_train batch_size discrete_latents n_neighbors",
        "infoe": "num_train batch_size discrete_latents",
        "infom": "num_train batch_size discrete_latents n_neighbors",
        "irs": "diff_quantile num_train! batch_size!",
        "jemmig": "num_train batch_size num_bins",
        "logistic_regression_cv": "",
        "mig": "num_train! batch_size",
        "mig_sup": "num_train batch_size threshold",
        "mig_validation": "batch_size",
        "modularity_explicitness": "num_train! num_test! batch_size",
        "predictor": "predictor_fn!",
        "prune_dims": "threshold",
        "representation_table": "memory_limit",
        "rmig": "num_train batch_size num_bins",
        "sandbox": "memory_limit time_limit",
        "sap_score": "num_train! num_test! batch_size continuous_factors!",
        "sap_score_validation": "train_percentage! continuous_factors! batch_size",
        "strong_downstream_task": "num_train! num_test! n_experiment!",
        "unified_scores": "num_train! num_test! matrix_fns! batch_size",
        "importance_gbt_matrix": "",
        "mutual_information_matrix": "",
        "accuracy_svm_matrix": "",
        "unsupervised_metrics": "num_train! batch_size",
    }
)

GIN_NAMES = {**TRAINING, **EVALUATION}

# Configurables that training calls directly, and those that it calls if a gin file refers to a name.
TRAINING_CALLS = (
    "model", "dataset", "acceleration", "encoder", "decoder", "reconstruction_loss", "vae_optimizer", "checkpoints",
    "pictures", "log", "export", "trackers",
)  # fmt: skip
CALLED_BY = {"factor_vae": ("discriminator", "discriminator_optimizer")}

# Parameters whose value is a function (in gin without parentheses), and those whose value is a function's result.
FUNCTIONS = ("encoder_fn", "decoder_fn", "discriminator_fn", "loss_fn", "optimizer_fn", "evaluation_fn")
RESULTS = ("model.model",)

_MEAN = (
    "is disentanglement_lib's step between training and scoring; here the encoder's mean is exported and scored, so "
    "remove it"
)
_METRIC = "belongs to a metric of disentanglement_lib that is not available here; remove it"
_ELSEWHERE = "belongs to a part of disentanglement_lib that is not available here; remove it"

# Names of disentanglement_lib and of the starter kit that are not available here, with the reason.
NOT_HERE = {
    **dict.fromkeys(("postprocess", "mean_representation", "sampled_representation"), _MEAN),
    **dict.fromkeys(
        (
            "factorwise_dci", "reduced_downstream_task", "reduced_representation", "unified_score_validation",
        ),
        _METRIC,
    ),
    **dict.fromkeys(
        (
            "BaselineCNNEmbedder", "HubEmbedding", "OptimizedWildRelNet", "TwoStageModel", "abstract_reasoning",
            "activation", "export_as_tf_hub", "kernel_initializer", "pgm", "test_decoder", "test_encoder",
        ),
        _ELSEWHERE,
    ),
}  # fmt: skip


def parameters_of(name: str) -> tuple[str, ...] | None:
    """Return the parameters of a name; None if the name is not in the tables."""
    return tuple(parameter.rstrip("!") for parameter in GIN_NAMES[name]) if name in GIN_NAMES else None


def required_of(name: str) -> tuple[str, ...]:
    """Return the parameters of a name that have no default."""
    return tuple(parameter.rstrip("!") for parameter in GIN_NAMES.get(name, ()) if parameter.endswith("!"))
