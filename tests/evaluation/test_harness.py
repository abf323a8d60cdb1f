import html
import json
import re
import shutil
from pathlib import Path

import disentanglement_lib
import gin
import numpy as np
import pytest
import torch
from messages import facts
from torch import nn

import disentanglement_challenge.models.vae  # noqa: F401 (registers gin's `encoder`)
from disentanglement_challenge import library
from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.data import named
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.errors import ConfigError, DataError, OutputError, RepresentationError
from disentanglement_challenge.evaluation import harness
from disentanglement_challenge.evaluation.harness import check_settings
from disentanglement_challenge.evaluation.subject import image_subject
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.export.metadata import Metadata
from disentanglement_challenge.export.model_file import export_model, import_model
from disentanglement_challenge.export.representor import make_representor
from disentanglement_challenge.files import write_text
from disentanglement_challenge.metrics import METRICS, RECORDS
from disentanglement_challenge.pages.comparison_page import read_runs
from disentanglement_challenge.pages.experiment_page import experiment_page
from disentanglement_challenge.pages.record import read_record

SMALL = [
    "dataset.name = 'tiny'",
    "factor_vae_score.num_variance_estimate = 200",
    "factor_vae_score.num_train = 100",
    "factor_vae_score.num_eval = 50",
    "dci.num_train = 200",
    "dci.num_test = 100",
    "sap_score.num_train = 200",
    "sap_score.num_test = 100",
    "mig.num_train = 200",
    "irs.num_train = 200",
    "activity.num_train = 200",
]
LIBRARY = [*SMALL, "evaluation.engine = 'library'"]


def evaluate(*arguments, **keywords):
    return harness.evaluate(*arguments, **keywords).by_metric


@pytest.fixture
def tiny(monkeypatch):
    images = np.random.RandomState(0).randint(256, size=(24, 64, 64, 3)).astype(np.uint8)
    data = IndexedGroundTruthData("tiny", images, [3, 2, 4], ["a", "b", "c"])
    monkeypatch.setitem(named.LOADERS, "tiny", lambda name, path: data)
    return data


@pytest.fixture
def experiment(tmp_path):
    torch.manual_seed(0)
    experiment = Experiment(tmp_path / "e")
    export_model(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 4)), experiment.model)
    return experiment


def library_scores(experiment, data, tie_seed=0):
    """Compute the five scores with disentanglement_lib's functions, with settings as arguments."""
    representation = make_representor(import_model(experiment.model), cuda=False)

    def fresh():
        np.random.seed(tie_seed)
        return data, representation, np.random.RandomState(0)

    with gin_configuration([], ["discretizer.discretizer_fn = @histogram_discretizer", "discretizer.num_bins = 20"]):
        gin.bind_parameter("prune_dims.threshold", 0.05)
        return {
            "factor_vae_metric": library.factor_vae.compute_factor_vae(
                *fresh(), batch_size=64, num_train=100, num_eval=50, num_variance_estimate=200
            )["eval_accuracy"],
            "sap_score": library.sap_score.compute_sap(*fresh(), num_train=200, num_test=100, continuous_factors=False)[
                "SAP_score"
            ],
            "dci": library.dci.compute_dci(*fresh(), num_train=200, num_test=100)["disentanglement"],
            "irs": library.irs.compute_irs(*fresh(), num_train=200, batch_size=16)["IRS"],
            "mig": library.mig.compute_mig(*fresh(), num_train=200)["discrete_mig"],
        }


def test_the_library_engine_gives_the_librarys_scores(experiment, tiny):
    scores = evaluate(experiment, [], LIBRARY)
    assert {metric: scores[metric].value for metric in METRICS} == library_scores(experiment, tiny)


def test_the_fast_engine_gives_them_too(experiment, tiny):
    scores = {metric: score.value for metric, score in evaluate(experiment, [], SMALL).items()}
    expected = library_scores(experiment, tiny)
    assert scores["factor_vae_metric"] == expected["factor_vae_metric"]
    assert scores["mig"] == expected["mig"]
    assert scores["irs"] == pytest.approx(expected["irs"], abs=1e-6)
    assert scores["sap_score"] == pytest.approx(expected["sap_score"], abs=1e-3)
    # With 24 images most splits are ties, which scikit-learn's random state decides: its own scores vary.
    spread = [library_scores(experiment, tiny, tie_seed)["dci"] for tie_seed in range(6)]
    assert min(spread) - 2e-3 <= scores["dci"] <= max(spread) + 2e-3


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_another_format_has_the_same_scores_and_names_its_data_set(experiment, tiny, suffix):
    """The experiment has no TorchScript file, and only the file itself records the data set."""
    scores = evaluate(experiment, [], SMALL)
    model = import_model(experiment.model)
    experiment.model.unlink()
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 4))
    flat[1].load_state_dict({name.removeprefix("1."): value for name, value in model.state_dict().items()})
    export_model(flat, experiment.model.with_suffix(suffix), metadata=Metadata.of("tiny", 4, ""))
    bindings = [binding for binding in SMALL if "dataset.name" not in binding]
    again = evaluate(experiment, [], bindings, overwrite=True)
    assert {metric: score.value for metric, score in again.items()} == pytest.approx(
        {metric: score.value for metric, score in scores.items()}, abs=1e-3
    )


def test_a_sandboxed_model_has_the_same_scores(experiment, tiny):
    alone = evaluate(experiment, [], SMALL)
    confined = evaluate(experiment, [], SMALL, overwrite=True, sandbox=True)
    assert {metric: score.value for metric, score in confined.items()} == {
        metric: score.value for metric, score in alone.items()
    }


def test_a_sandboxed_model_that_ends_leaves_no_scores(experiment, tiny):
    with pytest.raises(RepresentationError, match=facts("0.01 s", "sandbox.time_limit")):
        evaluate(experiment, [], [*SMALL, "sandbox.time_limit = 0.01"], sandbox=True)
    assert not experiment.scores.exists()
    assert not experiment.metrics.exists()


@pytest.mark.parametrize("bindings", [SMALL, LIBRARY])
def test_the_same_model_scores_the_same_again(experiment, tiny, bindings):
    write_text(experiment.representation_results / "gin" / "train.gin", "encoder.num_latent = 4\n")
    first = evaluate(experiment, [], bindings)
    again = evaluate(experiment, [], bindings, overwrite=True)
    assert {m: s.value for m, s in first.items()} == {m: s.value for m, s in again.items()}


@pytest.mark.parametrize(("bindings", "engine"), [(SMALL, "fast"), (LIBRARY, "library")])
def test_the_kits_evaluation_script_would_read_every_score(experiment, tiny, bindings, engine):
    write_text(experiment.representation_results / "gin" / "train.gin", "encoder.num_latent = 4\n")
    scores = evaluate(experiment, [], bindings)
    keys = {
        "factor_vae_metric": "evaluation_results.eval_accuracy",
        "dci": "evaluation_results.disentanglement",
        "mig": "evaluation_results.discrete_mig",
        "sap_score": "evaluation_results.SAP_score",
        "irs": "evaluation_results.IRS",
    }
    for metric, key in keys.items():
        results = experiment.metrics / metric / "results"
        content = json.loads((results / "aggregate" / "evaluation.json").read_text())
        assert content[key] == scores[metric].value
        assert content["evaluation_results.elapsed_time"] > 0
        assert content["evaluation_results.engine"] == engine
        assert content["evaluation_config.evaluation.random_seed"] == "0"
        for setting in METRICS[metric].settings:
            assert f"evaluation_config.{setting}" in content
        assert (results / "gin" / "train.gin").read_text() == "encoder.num_latent = 4\n"
    dci = (experiment.metrics / "dci" / "results" / "gin" / "evaluation.gin").read_text()
    assert "dci.num_train = 200" in dci
    assert json.loads(experiment.scores.read_text()) == {metric: scores[metric].value for metric in METRICS}
    folders = sorted(path.name for path in experiment.metrics.iterdir() if path.is_dir())
    assert folders == sorted([*METRICS, "activity"])


CONFIGS = Path(disentanglement_lib.__path__[0]) / "config"


def library_config(metric):
    """Return disentanglement_lib's gin file of one of the five metrics."""
    folder = "sample/irs" if metric == "irs" else "unsupervised_study_v1/metric_configs"
    return str(CONFIGS / folder / f"{metric}.gin")


@pytest.mark.parametrize("metric", METRICS)
def test_the_official_settings_are_the_librarys(metric):
    lines = (line.split("#")[0].strip() for line in Path(library_config(metric)).read_text().splitlines())
    theirs = dict(line.split(" = ") for line in lines if " = " in line)
    ours = {name: str(value) for name, value in METRICS[metric].official().items()}
    described = {"dataset.name", "evaluation.evaluation_fn", "evaluation.random_seed"}
    assert theirs["evaluation.evaluation_fn"] == f"@{METRICS[metric].gin_name}"
    assert theirs["evaluation.random_seed"] == "0"
    assert {name: value for name, value in theirs.items() if name not in described}.items() <= ours.items()


def test_the_librarys_own_metric_configs_are_these_metrics_with_these_settings(experiment, tiny):
    files = [library_config("mig"), library_config("irs")]
    scores = harness.evaluate(experiment, files, ["dataset.name = 'tiny'", "mig.num_train = 300"])
    assert list(scores) == ["mig", "irs"]
    assert scores.settings["mig.num_train"] == 300
    assert scores.settings["irs.num_train"] == 10000
    assert not experiment.scores.exists()


@pytest.mark.parametrize(("function", "metric"), [("mig", "mig"), ("factor_vae_score", "factor_vae_metric")])
def test_a_metrics_function_is_that_metric(experiment, tiny, function, metric):
    scores = harness.evaluate(experiment, [], [*SMALL, f"evaluation.evaluation_fn = @{function}"])
    assert list(scores) == [metric]


@pytest.mark.parametrize(
    ("bindings", "recorded", "expected"),
    [(["dataset.name = 'tiny'"], "other", "tiny"), (["dataset.name = 'auto'"], "tiny", "tiny"), ([], "tiny", "tiny")],
)
def test_the_data_set_is_the_one_that_is_named_or_was_trained_on(experiment, tiny, bindings, recorded, expected):
    write_text(experiment.representation_results / "gin" / "postprocess.gin", f"dataset.name = '{recorded}'\n")
    evaluate(experiment, [], [*SMALL[1:], *bindings])
    saved = (experiment.metrics / "mig" / "results" / "gin" / "evaluation.gin").read_text()
    assert re.search(rf"dataset\.name = '{expected}'", saved)


def test_without_a_record_the_environment_names_the_data_set(experiment, tiny, monkeypatch):
    monkeypatch.setenv("AICROWD_DATASET_NAME", "tiny")
    evaluate(experiment, [], SMALL[1:])
    monkeypatch.setenv("AICROWD_DATASET_NAME", "tinny")
    with pytest.raises(DataError, match=facts("'tinny'", "did you mean 'tiny'")):
        evaluate(experiment, [], SMALL[1:], overwrite=True)
    assert experiment.scores.exists(), "a mistake must not remove existing scores"


def test_a_score_that_there_is_not_is_null_here_and_absent_from_the_kits_files(experiment, tiny):
    """A single training point has one value of each factor, so no classifier can be fitted."""
    bindings = [binding for binding in SMALL if "sap_score.num_train" not in binding] + ["sap_score.num_train = 1"]
    scores = harness.evaluate(experiment, [], bindings)
    assert scores["sap_score"] is None
    saved = json.loads(experiment.scores.read_text())
    assert saved["sap_score"] is None
    assert all(isinstance(saved[metric], float) for metric in METRICS if metric != "sap_score")
    kits = json.loads((experiment.metrics / "sap_score/results/aggregate/evaluation.json").read_text())
    assert "evaluation_results.SAP_score" not in kits
    reason = json.loads(experiment.metrics_provenance.read_text())["metrics"]["sap_score"]["reason"]
    assert re.match(facts("factor 'a'", "one value"), reason)
    page = html.unescape(experiment_page(read_record(experiment.path)))
    assert reason in page
    other = shutil.copytree(experiment.path, experiment.path.parent / "other")
    assert [np.isnan(run.scores).sum() for run in read_runs([experiment.path, other])] == [1, 1]


def test_scores_are_replaced_only_when_told_to(experiment, tiny):
    evaluate(experiment, [], SMALL)
    with pytest.raises(OutputError, match=facts(experiment.path, "--overwrite")):
        evaluate(experiment, [], SMALL)


def unofficial(experiment):
    return json.loads(experiment.metrics_provenance.read_text())["unofficial_settings"]


def test_one_score_computed_again_leaves_the_settings_of_the_others_on_record(experiment, tiny):
    mig = {"metrics": [RECORDS["mig"]], "overwrite": True}
    evaluate(experiment, [], [*SMALL, "evaluation.random_seed = 3"])
    assert unofficial(experiment)["evaluation.random_seed"] == 3
    evaluate(experiment, [], SMALL[:1], **mig)
    assert unofficial(experiment)["evaluation.random_seed"] == 3
    assert unofficial(experiment)["dci.num_train"] == 200
    assert "mig.num_train" not in unofficial(experiment)
    evaluate(experiment, [], SMALL, overwrite=True)
    assert "evaluation.random_seed" not in unofficial(experiment)


def test_a_matrix_goes_with_its_score(experiment, tiny):
    evaluate(experiment, [], SMALL)
    evaluate(experiment, [], LIBRARY, metrics=[RECORDS["mig"]], overwrite=True)
    with np.load(experiment.matrices) as saved:
        assert list(saved) == [metric for metric in METRICS if metric != "mig"]


def test_a_model_that_is_replaced_while_it_is_loaded_gets_no_scores_of_the_old_one(experiment, tiny, monkeypatch):
    def subject_of(*arguments):
        export_model(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 4)), experiment.model)
        return image_subject(*arguments)

    monkeypatch.setattr(harness, "image_subject", subject_of)
    with pytest.raises(OutputError, match=facts(experiment.model, "replaced")):
        evaluate(experiment, [], SMALL)
    assert not experiment.scores.exists()


def test_a_record_that_is_none_is_written_anew(experiment, tiny):
    evaluate(experiment, [], SMALL)
    write_text(experiment.metrics_provenance, "[]")
    evaluate(experiment, [], SMALL, metrics=[RECORDS["mig"]], overwrite=True)
    assert list(json.loads(experiment.metrics_provenance.read_text())["metrics"]) == ["mig"]


class Constant(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = nn.Parameter(answer)

    def forward(self, images):
        return self.answer.expand(images.shape[0], self.answer.shape[0]).clone()


class Rank3(nn.Module):
    def forward(self, images):
        return images.mean(3)


class NotANumber(nn.Module):
    def forward(self, images):
        return images.mean((2, 3)) / 0 * 0


@pytest.mark.parametrize(("model", "message"), [(Rank3(), r"shape \(64, 3, 64\)"), (NotANumber(), "NaN")])
@pytest.mark.parametrize("bindings", [SMALL, LIBRARY])
def test_a_representation_that_cannot_be_scored_leaves_nothing(tmp_path, tiny, model, message, bindings):
    experiment = Experiment(tmp_path)
    experiment.model.parent.mkdir(parents=True)
    torch.jit.trace(model, torch.zeros(2, 3, 64, 64)).save(experiment.model)
    with pytest.raises(RepresentationError, match=message):
        evaluate(experiment, [], bindings)
    assert not experiment.metrics.exists()
    assert not experiment.scores.exists()


class Noise(nn.Module):
    def forward(self, images):
        return torch.rand(images.shape[0], 5)


class OfTheBatch(nn.Module):
    def forward(self, images):
        flat = images.flatten(1)[:, :5]
        return flat - flat.mean(0)


class OneLatent(nn.Module):
    def forward(self, images):
        return images.flatten(1).mean(1, keepdim=True)


class Integers(nn.Module):
    def forward(self, images):
        return (images.flatten(1)[:, :5] * 9).int()


class Raises(nn.Module):
    def forward(self, images):
        assert images.shape[1] == 1, "one channel only"
        return images.flatten(1)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Noise(), ["batch", "random"]),
        (OfTheBatch(), ["batch", "random"]),
        (OneLatent(), ["1 latent", 2]),
        (Integers(), ["torch.int32"]),
        (Raises(), ["3 channel", "takes 1"]),
    ],
)
def test_what_would_make_an_hour_of_metrics_worthless_costs_no_earlier_score(tmp_path, tiny, model, said):
    experiment = Experiment(tmp_path)
    experiment.model.parent.mkdir(parents=True)
    torch.jit.script(model).save(experiment.model)
    write_text(experiment.scores, "earlier")
    with pytest.raises(RepresentationError, match=facts(*said)) as raised:
        evaluate(experiment, [], SMALL, overwrite=True)
    assert "\n" not in str(raised.value)
    assert experiment.scores.read_text() == "earlier"
    assert not experiment.unfinished.path.exists()


def test_a_collapsed_representation_gets_the_librarys_scores(tmp_path, tiny):
    experiment = Experiment(tmp_path)
    export_model(Constant(torch.ones(3)), experiment.model)
    theirs = evaluate(experiment, [], LIBRARY)
    ours = evaluate(experiment, [], SMALL, overwrite=True)
    for metric in METRICS:
        assert ours[metric].value == pytest.approx(theirs[metric].value, abs=1e-9), metric


@pytest.mark.parametrize(
    ("binding", "said"),
    [
        ("dci.num_trian = 5", ["num_trian", "num_train"]),
        ("evaluation.engine = 'exact'", ["evaluation.engine", "'exact'", "'fast'"]),
        ("evaluation.engine = 'slow'", ["evaluation.engine", "'slow'", "'fast', 'library'"]),
        ("sap_score.continuous_factors = True", ["sap_score.continuous_factors", "True", "'library'"]),
        ("evaluation.evaluation_fn = @dci_validation", ["evaluation.evaluation_fn", "@dci_validation", "@mig"]),
        ("factor_vae_score.batch_size = 1", ["factor_vae_score.batch_size is 1", "at least 2"]),
        ("factor_vae_score.num_variance_estimate = 1", ["num_variance_estimate is 1", "at least 2"]),
        ("evaluation.random_seed = -1", ["evaluation.random_seed is -1"]),
        ("dci.num_train = 0", ["dci.num_train is 0"]),
        ("mig.num_train = %N", ["%N"]),
    ],
)
def test_a_wrong_binding(experiment, tiny, binding, said):
    with pytest.raises(ConfigError, match=facts(*said)):
        evaluate(experiment, [], [*SMALL, binding])


@pytest.mark.parametrize("bindings", [SMALL, LIBRARY])
@pytest.mark.parametrize(
    "binding",
    [
        "dci.num_train = 0",
        "discretizer.num_bins = 0",
        "irs.diff_quantile = 99",
        "prune_dims.threshold = 'low'",
        "activity.threshold = None",
        "representation_table.memory_limit = 0",
        "sandbox.time_limit = -1",
    ],
)
def test_a_number_that_cannot_be_is_said_before_any_work(bindings, binding):
    name, value = binding.split(" = ")
    with pytest.raises(ConfigError, match=facts(name, value)):
        check_settings([], [*bindings, binding])


def test_the_matrices_behind_the_scores_give_the_scores(experiment, tiny):
    """disentanglement_lib's own functions compute the scores from the matrices, if they accept one."""
    scores = {metric: score.value for metric, score in evaluate(experiment, [], SMALL).items()}
    with np.load(experiment.matrices) as saved:
        matrices = dict(saved)
    assert set(matrices) == set(METRICS)
    assert all(matrix.shape == (4, 3) and matrix.dtype == np.float64 for matrix in matrices.values())
    _, ys = library.utils.generate_batch_factor_code(tiny, lambda x: x[:, 0, 0], 200, np.random.RandomState(0), 16)
    best = np.sort(matrices["mig"], axis=0)[::-1]
    assert scores["mig"] == np.mean((best[0] - best[1]) / library.utils.discrete_entropy(ys))
    assert scores["dci"] == library.dci.disentanglement(matrices["dci"])
    assert scores["sap_score"] == library.sap_score.compute_avg_diff_top_two(matrices["sap_score"])
    votes = json.loads((experiment.metrics / "factor_vae_metric/results/aggregate/evaluation.json").read_text())
    majority = matrices["factor_vae_metric"].max(axis=1).sum() / matrices["factor_vae_metric"].sum()
    assert votes["evaluation_results.train_accuracy"] == pytest.approx(majority)


def test_the_matrix_of_irs_is_the_librarys(experiment, tiny):
    evaluate(experiment, [], SMALL)
    representation = make_representor(import_model(experiment.model), cuda=False)
    mus, ys = library.utils.generate_batch_factor_code(tiny, representation, 200, np.random.RandomState(0), 16)
    expected = library.irs.scalable_disentanglement_score(library.utils._histogram_discretize(ys, 20).T, mus.T)
    with np.load(experiment.matrices) as saved:
        np.testing.assert_allclose(saved["irs"], expected["IRS_matrix"], atol=1e-6)


def test_the_librarys_engine_keeps_its_matrices_to_itself(experiment, tiny):
    evaluate(experiment, [], LIBRARY)
    with np.load(experiment.matrices) as saved:
        assert list(saved) == []
    provenance = json.loads(experiment.metrics_provenance.read_text())
    assert provenance["engine"] == "library"
    assert provenance["ground_truth_data"]["factor_names"] == ["a", "b", "c"]
    assert set(provenance["seconds"]) == {"encoding", *METRICS, "activity"}
    assert provenance["versions"]["numpy"] == np.__version__


MORE = [
    "beta_vae_sklearn.num_train = 100",
    "beta_vae_sklearn.num_eval = 50",
    "modularity_explicitness.num_train = 200",
    "modularity_explicitness.num_test = 100",
    "unsupervised_metrics.num_train = 200",
    "activity.num_train = 200",
    "downstream_task.num_train = [10, 100]",
    "downstream_task.num_test = 100",
    "strong_downstream_task.num_train = [200]",
    "strong_downstream_task.num_test = 100",
    "strong_downstream_task.n_experiment = 1",
    "unified_scores.num_train = 200",
    "unified_scores.num_test = 100",
    "fairness.num_train = 200",
    "fairness.num_test_points_per_class = 20",
]


def test_all_metrics_come_from_the_same_table_and_leave_scores_json_alone(experiment, tiny):
    scores = evaluate(experiment, [], [*SMALL, *MORE], metrics=list(RECORDS.values()))
    assert json.loads(experiment.scores.read_text()).keys() == METRICS.keys()
    representation = make_representor(import_model(experiment.model), cuda=False)
    with gin_configuration([], ["discretizer.discretizer_fn = @histogram_discretizer", "discretizer.num_bins = 20"]):
        expected = {
            "beta_vae_sklearn": library.beta_vae.compute_beta_vae_sklearn(
                tiny, representation, np.random.RandomState(0), batch_size=64, num_train=100, num_eval=50
            )["eval_accuracy"],
            "modularity": library.modularity_explicitness.compute_modularity_explicitness(
                tiny, representation, np.random.RandomState(0), num_train=200, num_test=100
            )["modularity_score"],
            "unsupervised": library.unsupervised_metrics.unsupervised_metrics(
                tiny, representation, np.random.RandomState(0), num_train=200
            )["gaussian_total_correlation"],
        }
    for metric, value in expected.items():
        assert scores[metric].value == pytest.approx(value, abs=1e-6), metric
    # The library's results on encoded images and on a table differ by the rounding of batches.
    codes = representation(tiny.observations(np.arange(24)))
    assert scores["activity"].value == (codes.var(axis=0) > 0.01).sum()
    saved = json.loads((experiment.metrics / "activity" / "results" / "aggregate" / "evaluation.json").read_text())
    assert len(saved["evaluation_results.activity"]) == 4


def test_what_cannot_be_scored_is_said_before_training(tiny, monkeypatch):
    flat = IndexedGroundTruthData("flat", tiny.images, [3, 1, 8], ["a", "b", "c"])
    monkeypatch.setitem(named.LOADERS, "flat", lambda name, path: flat)
    for bindings, error, said in (
        (["dataset.name = 'flat'"], DataError, ["'flat'", "factor 'b'", "one value"]),
        (["dataset.name = 'tiny'", "N = 1", "encoder.num_latent = %N"], ConfigError, ["encoder.num_latent is 1", 2]),
    ):
        with gin_configuration([], bindings), pytest.raises(error, match=facts(*said, "train_pytorch.py")):
            harness.check_before_training()
    with gin_configuration([], ["dataset.name = 'tiny'", "encoder.num_latent = 2"]):
        harness.check_before_training()


def test_settings_are_checked_without_a_model_or_data():
    check_settings([], SMALL)
    with pytest.raises(ConfigError, match=facts("evaluation.engine", "'exactt'", "'fast', 'library'")):
        check_settings([], ["evaluation.engine = 'exactt'"])


def test_a_macro_sets_the_fast_engine_too(experiment, tiny):
    direct = evaluate(experiment, [], SMALL)
    macro = [binding for binding in SMALL if not binding.startswith("mig")] + ["N = 200", "mig.num_train = %N"]
    assert evaluate(experiment, [], macro, overwrite=True)["mig"].value == direct["mig"].value


def test_what_was_scored_is_said(experiment, tiny):
    scores = harness.evaluate(experiment, [], SMALL)
    assert scores.data["name"] == "tiny"
    assert scores.engine == "fast"
    assert scores.encoding_seconds > 0
    theirs = harness.evaluate(experiment, [], LIBRARY, overwrite=True)
    engines = {name: score.engine for name, score in theirs.by_metric.items()}
    assert engines == {**dict.fromkeys(METRICS, "library"), "activity": "fast"}
