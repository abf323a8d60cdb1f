"""The names of the metrics, and which of a metric's results is its score."""

# The challenge's metrics in the order of the report's tables, and the result of each that is its score.
METRICS = {
    "factor_vae_metric": "eval_accuracy",
    "sap_score": "SAP_score",
    "dci": "disentanglement",
    "irs": "IRS",
    "mig": "discrete_mig",
}

# How many latents are active; no score, and in each evaluation for whoever reads the scores.
ACTIVITY = {"activity": "num_active"}

# What `all_metrics` adds, in the same form; unlike the challenge's these are not all between 0 and 1.
MORE_METRICS = {
    "beta_vae_sklearn": "eval_accuracy",
    "modularity_explicitness": "modularity_score",
    "unsupervised": "gaussian_total_correlation",
}
