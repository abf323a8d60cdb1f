"""The checks before PyTorch is imported."""

import pytest
from messages import facts

from disentanglement_challenge.errors import OutputError
from disentanglement_challenge.preflight import check_scoring


def test_one_metric_of_a_scored_model_needs_no_leave_to_replace_scores(small_experiment, monkeypatch):
    monkeypatch.setenv("AICROWD_OUTPUT_PATH", str(small_experiment.path.parent))
    monkeypatch.setenv("AICROWD_EVALUATION_NAME", small_experiment.path.name)
    assert (
        check_scoring([], ["evaluation.evaluation_fn = @modularity_explicitness"], overwrite=False) == small_experiment
    )
    assert check_scoring([], [], overwrite=False, alone=True) == small_experiment
    for bindings in ([], ["evaluation.evaluation_fn = None"]):
        with pytest.raises(OutputError, match=facts("scores.json", "--overwrite")):
            check_scoring([], bindings, overwrite=False)
