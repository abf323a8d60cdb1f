"""Settings of the five metrics for tests that need scores, but not good ones."""


def quick_scores(points):
    """Return bindings with so few points that all five metrics take seconds."""
    return [
        "factor_vae_score.num_variance_estimate = 200",
        "factor_vae_score.num_train = 200",
        "factor_vae_score.num_eval = 100",
        f"dci.num_train = {points}",
        f"dci.num_test = {points // 2}",
        f"sap_score.num_train = {points}",
        f"sap_score.num_test = {points // 2}",
        f"mig.num_train = {points}",
        f"irs.num_train = {points}",
        f"activity.num_train = {points}",
    ]
