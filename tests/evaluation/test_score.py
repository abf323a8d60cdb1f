"""`score`: any representation on any data, and its errors."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import gin
import numpy as np
import pytest
import torch
from conftest import ROOT
from messages import facts
from numpy.random import RandomState
from small_data import (
    FACTOR_SIZES,
    NUM_IMAGES,
    codes_of_every_kind,
    indices_of,
    representation_of,
    small_ground_truth_data,
)
from torch import nn

import disentanglement_challenge
from disentanglement_challenge import Scores, load_data, score
from disentanglement_challenge.data import named
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.errors import ChallengeError, ConfigError, DataError, RepresentationError
from disentanglement_challenge.evaluation import harness
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.export.model_file import export_model
from disentanglement_challenge.metrics import METRICS, RECORDS
from disentanglement_challenge.metrics.metric import Result, count

SMALL = {
    "factor_vae_score.num_variance_estimate": 200,
    "factor_vae_score.num_train": 100,
    "factor_vae_score.num_eval": 50,
    "dci.num_train": 200,
    "dci.num_test": 100,
    "sap_score.num_train": 200,
    "sap_score.num_test": 100,
    "mig.num_train": 200,
    "irs.num_train": 200,
}
FACTORS = np.stack(np.unravel_index(np.arange(NUM_IMAGES), FACTOR_SIZES), axis=1)


@pytest.fixture
def tiny(monkeypatch):
    images = RandomState(0).randint(256, size=(24, 64, 64, 3)).astype(np.uint8)
    data = IndexedGroundTruthData("tiny", images, [3, 2, 4], ["a", "b", "c"])
    monkeypatch.setitem(named.LOADERS, "tiny", lambda name, path: data)
    return data


def test_codes_of_a_grid_score_like_the_images_that_they_are_of():
    """Images, codes in the data set's order, and codes with factors give the same scores."""
    data, codes = small_ground_truth_data(), codes_of_every_kind()
    by_images = score(representation_of(codes), data, settings=SMALL)
    by_order = score(codes, data, settings=SMALL)
    shuffled = RandomState(0).permutation(NUM_IMAGES)
    words = np.array(["delta", "alpha", "charlie", "bravo"])[np.argsort([3, 0, 2, 1])]
    named_factors = {"a": np.sort(words)[FACTORS[:, 0]], **{n: FACTORS[:, i] for i, n in enumerate("bcd", start=1)}}
    by_factors = score(codes[shuffled], {n: c[shuffled] for n, c in named_factors.items()}, settings=SMALL)
    assert by_images.as_dict() == by_order.as_dict() == by_factors.as_dict()
    for name, matrix in by_images.matrices.items():
        np.testing.assert_array_equal(matrix, by_factors.matrices[name])


def test_the_librarys_engine_scores_codes_too():
    codes = codes_of_every_kind()[:, :8]
    ours, theirs = (score(codes, FACTORS, settings=SMALL, engine=engine) for engine in ("fast", "library"))
    for name, metric in METRICS.items():
        if name != "dci":  # with few rows, many splits tie
            assert ours[name] == pytest.approx(theirs[name], abs=metric.tolerance + 1e-12), name
    assert theirs.matrices == {}


def model(num_latent=4):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(8 * 16 * 16, num_latent)
    )


def test_a_module_and_its_file_have_run_pys_scores_to_the_last_digit(tiny, tmp_path):
    experiment = Experiment(tmp_path / "e")
    module = model()
    export_model(module, experiment.model)
    bindings = [f"{name} = {value}" for name, value in SMALL.items()]
    expected = harness.evaluate(experiment, [], ["dataset.name = 'tiny'", *bindings])
    expected = {name: expected[name] for name in METRICS}
    assert score(str(experiment.model), "tiny", settings=SMALL).as_dict() == expected
    assert score(experiment.model, tiny, settings=SMALL).as_dict() == expected
    module.train()
    assert score(module, tiny, settings=SMALL).as_dict() == expected
    assert module.training, "the module's mode is restored"


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_every_format_of_a_model_file_is_scored(tiny, tmp_path, suffix):
    module = model()
    export_model(module, tmp_path / f"m{suffix}")
    theirs = score(tmp_path / f"m{suffix}", tiny, metrics=["mig", "irs"], settings={"mig.num_train": 200})
    ours = score(module, tiny, metrics=["mig", "irs"], settings={"mig.num_train": 200})
    assert theirs.as_dict() == pytest.approx(ours.as_dict(), abs=1e-3)


@pytest.mark.parametrize(
    "answer",
    [
        lambda codes: codes,
        lambda codes: codes.tolist(),
        lambda codes: torch.tensor(codes, requires_grad=True),
        lambda codes: type("Array", (), {"__array__": lambda self, *_, **__: codes})(),  # as JAX's
    ],
    ids=["array", "list", "tensor", "other array"],
)
def test_a_callable_answers_in_whatever_numpy_takes(answer):
    codes = codes_of_every_kind()[:, 4:6]
    found = score(lambda images: answer(codes[indices_of(images)]), small_ground_truth_data(), "mig")
    assert found.as_dict() == pytest.approx(score(codes, FACTORS, "mig").as_dict())


def test_a_callable_that_changes_its_images_changes_nobody_elses():
    def in_place(images):
        codes = codes_of_every_kind()[indices_of(images)]
        images -= 5
        return codes

    expected = score(codes_of_every_kind(), FACTORS, "mig").as_dict()
    assert score(in_place, small_ground_truth_data(), "mig").as_dict() == expected


def test_rows_that_are_no_grid_are_drawn_themselves():
    """A third of the combinations is missing, some rows occur three times, and values are words."""
    kept = np.concatenate([np.flatnonzero(FACTORS.sum(axis=1) % 3), np.arange(10), np.arange(10)])
    names = np.array(["v", "w", "x", "y", "z"])
    factors = {f"f{i}": names[FACTORS[kept, i]] for i in range(4)}
    codes = FACTORS[kept] + 0.01 * RandomState(0).normal(size=(len(kept), 4))
    scores = score(codes, factors, settings=SMALL)
    assert scores["factor_vae"] == 1
    assert scores["dci"] > 0.95
    assert scores["mig"] > 0.9
    assert scores.data["is_full_grid"] is False
    assert any("association" in note for note in scores.notes)
    again = score(codes, factors, settings=SMALL)
    assert scores.as_dict() == again.as_dict()
    assert scores.as_dict() != score(codes, factors, settings=SMALL, seed=1).as_dict()


def test_the_mig_of_rows_is_that_of_rows_drawn_with_replacement():
    """The reference draws rows as documented and counts entropies in float64."""
    kept = np.flatnonzero(FACTORS.sum(axis=1) % 3)
    factors, codes = FACTORS[kept], np.round(3 * RandomState(0).normal(size=(len(kept), 2)), 1)
    rows = RandomState(0).randint(len(kept), size=500)

    def entropy(*columns):
        counts = np.unique(np.stack(columns, axis=1), axis=0, return_counts=True)[1] / len(columns[0])
        return -(counts * np.log(counts)).sum()

    bins = [np.digitize(c, np.linspace(c.min(), c.max(), 21)[:-1]) for c in codes[rows].T]
    gaps = []
    for factor in factors[rows].T:
        information = sorted(entropy(b) + entropy(factor) - entropy(b, factor) for b in bins)
        gaps.append((information[-1] - information[-2]) / entropy(factor))
    found = score(codes, factors, "mig", settings={"mig.num_train": 500})["mig"]
    assert found == pytest.approx(np.mean(gaps), abs=1e-12)


def test_factors_that_depend_on_each_other_are_named():
    random_state = RandomState(0)
    first = random_state.randint(4, size=400)
    factors = np.stack([first, (first + (random_state.uniform(size=400) < 0.1)) % 4, random_state.randint(3, size=400)])
    scores = score(factors.T + 0.0, factors.T, "mig")
    notes, largest = scores.notes, scores.data["largest_mutual_information"]
    assert largest["factors"] == ["factor 0", "factor 1"]
    assert 0.5 < largest["normalised"] < 1
    told = facts("'factor 0'", "'factor 1'", f"{largest['normalised']:.2f}")
    assert any(re.match(told, note) for note in notes)
    independent = np.stack([random_state.randint(4, size=4000), random_state.randint(3, size=4000)], axis=1)
    assert not any("'factor 0'" in note for note in score(independent + 0.0, independent, "mig").notes)


def test_the_share_of_test_draws_that_were_seen_in_training_is_said():
    few = score(codes_of_every_kind(), FACTORS, "sap", settings={"sap_score.num_train": 5, "sap_score.num_test": 400})
    seen = few.by_metric["sap_score"].results["test_seen_in_training"]
    # Five draws cover at most five of 120 rows, and each test draw is one of the 120.
    assert seen == pytest.approx(5 / 120, abs=0.03)
    assert any(re.match(facts(f"{seen:.0%}", "test"), note) for note in few.notes)


def test_names_aliases_and_records_choose_metrics():
    codes = codes_of_every_kind()
    assert list(score(codes, FACTORS, "mig")) == ["mig"]
    scores = score(codes, FACTORS, ["sap", RECORDS["mig"], "mig"], settings={"sap_score.num_train": 200})
    assert list(scores) == ["sap_score", "mig"]
    assert scores["sap"] == scores["sap_score"]
    with pytest.raises(KeyError, match=facts("'dci'", "sap_score, mig")):
        scores["dci"]


def test_scores_say_what_they_were_computed_with(tmp_path):
    scores = score(codes_of_every_kind(), FACTORS, ["mig", "dci"], settings={"dci.num_train": 300, "dci.num_test": 100})
    assert isinstance(scores, Scores)
    assert scores.settings["mig.num_train"] == 10000
    assert scores.unofficial == {"dci.num_train": 300, "dci.num_test": 100}
    scores.to_json(tmp_path / "scores.json")
    saved = json.loads((tmp_path / "scores.json").read_text())
    assert saved["scores"] == scores.as_dict()
    assert saved["official"] is False
    assert saved["unofficial_settings"] == scores.unofficial
    assert np.shape(saved["matrices"]["dci"]) == (14, 4)
    page = scores._repr_html_()
    assert page.count("<table>") == 3
    assert "dci.num_train = 300" in page
    assert score(codes_of_every_kind(), FACTORS, "mig").unofficial == {}
    assert score(codes_of_every_kind(), FACTORS, "mig", seed=3).unofficial == {"evaluation.random_seed": 3}


def test_scoring_reads_no_gin_and_leaves_the_callers_state_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gin.parse_config("mig.num_train = 7\ndiscretizer.num_bins = 2")
    before = gin.config_str()
    np.random.seed(5)
    expected = np.random.get_state()
    official = score(codes_of_every_kind(), FACTORS, "mig")
    assert official.settings["mig.num_train"] == 10000
    theirs = score(codes_of_every_kind(), FACTORS, ["mig", "dci"], engine="library", settings={"dci.num_train": 50})
    assert theirs["mig"] == official["mig"]
    assert gin.config_str() == before
    for ours, kept in zip(np.random.get_state(), expected, strict=True):
        np.testing.assert_array_equal(ours, kept)
    assert list(tmp_path.iterdir()) == []
    gin.clear_config()


def _nan(codes):
    codes[7, 2] = np.nan
    return codes


@pytest.mark.parametrize(
    ("codes", "factors", "options", "said"),
    [
        (np.zeros(5), FACTORS, {}, ["codes", "(5,)", "(N, num_latent)"]),
        ([[1.0], [2.0, 3.0]], FACTORS, {}, ["codes", "unequal", "(N, num_latent)"]),
        (np.array([["a", "b"]] * NUM_IMAGES), FACTORS, {}, ["codes", "<U1", "numbers"]),
        (np.full((NUM_IMAGES, 2), None), FACTORS, {}, ["codes", "object", "numbers"]),
        (_nan(codes_of_every_kind()), FACTORS, {}, ["codes", "nan", "row 7", "column 2"]),
        (codes_of_every_kind()[:, :1], FACTORS, {}, ["1 latent", 2]),
        (codes_of_every_kind()[:-1], FACTORS, {}, ["119 codes", "120 rows"]),
        (codes_of_every_kind()[:-1], small_ground_truth_data(), {}, ["119 codes", "120 images"]),
        (codes_of_every_kind(), FACTORS * [1, 0, 1, 1], {}, ["'factor 1'", "one value"]),
        (codes_of_every_kind(), "mpi3d_embeded", {}, ["'mpi3d_embeded'", "did you mean 'mpi3d_embedded'"]),
        (codes_of_every_kind(), FACTORS, {"metrics": "migg"}, ["'migg'", "did you mean 'mig'"]),
        (codes_of_every_kind(), FACTORS, {"metrics": []}, ["metrics is empty"]),
        (codes_of_every_kind(), FACTORS, {"metrics": 3}, ["metrics is 3"]),
        (codes_of_every_kind(), FACTORS, {"settings": "mig"}, ["settings is 'mig'"]),
        (np.ma.masked_equal(np.ones((NUM_IMAGES, 2)), 1), FACTORS, {}, ["codes", "masked"]),
        (FACTORS + 2**60, FACTORS, {}, ["codes", "2**53"]),
        (codes_of_every_kind(), FACTORS, {"bins": 5}, ["bins is 5", "full grid", "each factor"]),
        (codes_of_every_kind(), FACTORS, {"bins": 2.5}, ["bins is 2.5", "integer", "4 factors"]),
        (
            codes_of_every_kind(),
            FACTORS,
            {"settings": {"dci.num_trian": 3}},
            ["'dci.num_trian'", "did you mean 'dci.num_train'"],
        ),
        (codes_of_every_kind(), FACTORS, {"settings": {"dci.num_train": 0}}, ["dci.num_train is 0"]),
        (
            codes_of_every_kind(),
            FACTORS,
            {"settings": {"sap_score.continuous_factors": True}},
            ["sap_score.continuous_factors", "'library'"],
        ),
        (codes_of_every_kind(), FACTORS, {"engine": "exact"}, ["engine", "'exact'", "'fast'"]),
        (codes_of_every_kind(), FACTORS, {"engine": "slow"}, ["engine", "'slow'", "'fast', 'library'"]),
        (codes_of_every_kind(), FACTORS, {"seed": -1}, ["seed is -1"]),
        (codes_of_every_kind()[:100], FACTORS[:100], {"engine": "library"}, ["'library'", "full grid", "'fast'"]),
        (representation_of(codes_of_every_kind()), FACTORS, {}, ["data is ndarray"]),
        ("nowhere.pt", small_ground_truth_data(), {}, ["nowhere.pt"]),
    ],
)
def test_bad_input_is_one_line(codes, factors, options, said):
    with pytest.raises(ChallengeError, match=facts(*said)) as raised:
        score(codes, factors, **options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("representation", "said"),
    [
        (lambda images: codes_of_every_kind()[: len(images) + 1], ["65 codes", "64 images"]),
        (lambda images: RandomState().normal(size=(len(images), 3)), ["batch", "random"]),
        (lambda images: np.zeros(len(images)), ["(64,)", "(N, num_latent)"]),
        (lambda images: np.full((len(images), 3), np.inf), ["inf", "row 0", "column 0"]),
        (lambda images: np.zeros((len(images), 1)), ["1 latent", 2]),
        (lambda images: {}["absent"], ["(64, 8, 8, 1)", "KeyError", "absent"]),
    ],
)
def test_a_callable_that_is_no_representation_is_one_line(representation, said):
    with pytest.raises(RepresentationError, match=facts(*said)):
        score(representation, small_ground_truth_data())


@pytest.mark.parametrize(("takes", "has"), [(3, 1), (1, 3)])
def test_another_number_of_channels_is_named(takes, has):
    images = RandomState(0).randint(256, size=(6, 64, 64, has)).astype(np.uint8)
    data = IndexedGroundTruthData("other", images, [2, 3], ["a", "b"])
    module = nn.Sequential(nn.Conv2d(takes, 2, 32), nn.Flatten())
    with pytest.raises(RepresentationError, match=facts(f"{has} channel", f"takes {takes}")):
        score(module, data, "mig")


def test_data_sets_load_by_name_with_their_loaders_options(tmp_path):
    images = RandomState(0).randint(256, size=(6, 64, 64, 1)).astype(np.uint8)
    np.savez(tmp_path / "mine.npz", images=images, factors=np.stack(np.unravel_index(np.arange(6), [2, 3]), axis=1))
    assert load_data("folder", path=tmp_path / "mine.npz").factors_num_values == [2, 3]
    with pytest.raises(DataError, match=facts("'folder'", "'paht'", "did you mean 'path'")):
        load_data("folder", paht=tmp_path)


def test_importing_the_package_loads_nothing_heavy_and_codes_need_no_framework():
    code = (
        "import sys, disentanglement_challenge as d\n"
        "heavy = ('torch', 'tensorflow', 'numba', 'sklearn', 'numpy')\n"
        "assert not [m for m in heavy if m in sys.modules], sys.modules.keys()\n"
        "import numpy as np\n"
        "factors = np.stack(np.unravel_index(np.arange(120), [4, 3, 2, 5]), axis=1)\n"
        "print(d.score(factors + 0.0, factors, ['mig', 'sap', 'irs', 'factor_vae']).as_dict())\n"
        "assert 'torch' not in sys.modules and 'tensorflow' not in sys.modules\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "'mig': 0.99" in result.stdout
    assert set(disentanglement_challenge.__all__) == {"Scores", "load_data", "score"}


@pytest.mark.filterwarnings("error")
def test_a_score_that_there_is_not_costs_the_others_nothing(tmp_path):
    """By chance of the draw, a factor has one value among the training points."""
    factors = np.zeros((400, 2), dtype=int)
    factors[:, 0] = np.arange(400) % 4
    factors[:2, 1] = 1
    codes = factors + 0.1 * RandomState(0).normal(size=factors.shape)
    scores = score(codes, factors, settings={**SMALL, "sap_score.num_train": 20, "mig.num_train": 400})
    assert scores["sap"] is None
    assert re.match(facts("'factor 1'", "one value"), scores.by_metric["sap_score"].reason)
    assert scores["mig"] is not None
    scores.to_json(tmp_path / "s.json")
    assert json.loads((tmp_path / "s.json").read_text())["scores"]["sap_score"] is None


@pytest.mark.parametrize(
    "compute",
    [
        lambda points, num_bins: 1 / 0,
        lambda points, num_bins: 0.5,
        lambda points, num_bins: Result({"discrete_mig": "high"}),
        lambda points, num_bins: Result({"discrete_mig": 0.5}, np.zeros((3, 3))),
        lambda points, num_bins: Result({"discrete_mig": np.nan}),
    ],
)
def test_a_metric_of_ones_own_that_fails_costs_the_others_nothing(compute):
    own = replace(RECORDS["mig"], name="own", compute=compute)
    scores = score(codes_of_every_kind(), FACTORS, [own, "mig"])
    assert scores["own"] is None
    assert scores.by_metric["own"].reason
    assert scores["mig"] == score(codes_of_every_kind(), FACTORS, "mig")["mig"]


def test_an_error_in_a_metric_of_ours_keeps_its_traceback(monkeypatch):
    broken = replace(RECORDS["mig"], compute=lambda points, num_bins: 1 / 0)
    monkeypatch.setitem(RECORDS, "mig", broken)
    with pytest.raises(ZeroDivisionError):
        score(codes_of_every_kind(), FACTORS, [broken])


def test_a_metric_that_fails_on_images_costs_the_others_nothing(tiny):
    """Also one that fails on what stands for the codes while the images that it needs are looked for."""
    one_factor = IndexedGroundTruthData("one", tiny.images[:3], [3], ["a"])

    def correlation(sampler, random_state, num_train):
        codes = sampler.points(num_train, 16, random_state).codes
        if np.linalg.matrix_rank(np.cov(codes.T)) < 2:
            raise np.linalg.LinAlgError("Singular matrix")
        return Result({"own": float(np.corrcoef(codes.T)[0, 1])})

    own = replace(
        RECORDS["mig"], name="own", key="own", compute=correlation, draws=(), settings={"own.num_train": count(50)}
    )

    def pixels(images):
        return images[:, 5, 5:8, 0]

    scores = score(pixels, one_factor, ["fairness", own, "mig"], settings={"mig.num_train": 200})
    assert scores["fairness"] is None
    assert "one factor" in scores.by_metric["fairness"].reason
    assert -1 <= scores["own"] <= 1
    assert scores["mig"] == score(pixels, one_factor, "mig", settings={"mig.num_train": 200})["mig"]


def test_a_metric_that_finds_no_memory_costs_the_others_nothing(monkeypatch):
    def compute(points, num_bins):
        raise MemoryError

    monkeypatch.setitem(RECORDS, "mig", replace(RECORDS["mig"], compute=compute))
    scores = score(codes_of_every_kind(), FACTORS, [RECORDS["mig"], "irs"])
    reason = scores.by_metric["mig"].reason
    assert re.match(facts("memory", "lower mig.num_train = 10000 or", "discretizer.num_bins = 20"), reason)
    assert "discretizer_fn" not in reason
    assert scores["irs"] is not None


def test_a_threshold_that_leaves_none_of_the_stand_ins_latents_leaves_some_of_the_models(tiny):
    """Images are looked for by draws on a stand-in for the codes, of a standard deviation of 10 or so."""
    settings = {**{name: SMALL[name] for name in SMALL if "factor_vae" in name}, "prune_dims.threshold": 50.0}
    scores = score(lambda images: 1e4 * images[:, 0, :4, 0], tiny, "factor_vae_metric", settings=settings)
    assert scores.by_metric["factor_vae_metric"].results["num_active_dims"] == 4
    assert scores["factor_vae_metric"] > 0


def test_the_channels_are_not_blamed_for_another_fault(tiny):
    def few_at_once(images):
        assert len(images) <= 32, "no more than 32 images"
        return images.mean((1, 2))

    with pytest.raises(RepresentationError, match="no more than 32 images"):
        score(few_at_once, tiny, "mig")


def test_a_module_may_compute_gradients(tiny):
    class Gradient(nn.Module):
        def forward(self, images):
            with torch.enable_grad():
                images = images.clone().requires_grad_()
                return images.square().mean((2, 3))

    assert score(Gradient(), tiny, "mig", settings={"mig.num_train": 200})["mig"] is not None


def test_bins_are_for_tables_of_factors(tiny):
    for representation in (codes_of_every_kind(), lambda images: images[:, 0, :2, 0]):
        with pytest.raises(ConfigError, match=facts("bins", 20, "data set")):
            score(representation, "tiny", bins=20)


def test_a_callable_may_answer_in_a_buffer_of_its_own():
    codes = codes_of_every_kind()[:, 4:8]
    buffer = np.zeros((64, 4), dtype=np.float32)

    def reused(images):
        buffer[: len(images)] = codes[indices_of(images)]
        return buffer[: len(images)]

    assert score(reused, small_ground_truth_data(), "mig").as_dict() == score(codes, FACTORS, "mig").as_dict()


def test_numbers_of_numpy_are_numbers():
    codes = codes_of_every_kind()
    ours = score(codes, FACTORS, "mig", seed=np.int64(3), settings={"mig.num_train": np.int64(200)})
    assert ours.as_dict() == score(codes, FACTORS, "mig", seed=3, settings={"mig.num_train": 200}).as_dict()


@pytest.mark.parametrize("kind", ["gradients", "bfloat16", "sparse"])
def test_tensors_are_codes(kind):
    tensor = torch.tensor(codes_of_every_kind()[:, 4:6])
    given = {
        "gradients": tensor.clone().requires_grad_(),
        "bfloat16": tensor.bfloat16(),
        "sparse": tensor.to_sparse(),
    }[kind]
    plain = tensor.bfloat16().float() if kind == "bfloat16" else tensor
    assert score(given, FACTORS, "mig").as_dict() == score(plain.numpy(), FACTORS, "mig").as_dict()


class Forgetful(nn.Module):
    """A module whose output changes from its third call on."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, images):
        self.calls.add_(1)
        return images.flatten(1)[:, :3] * (self.calls < 3)


def test_a_model_file_that_keeps_count_is_no_function_of_the_image(tmp_path):
    torch.jit.script(Forgetful()).save(tmp_path / "model.pt")
    with pytest.raises(RepresentationError, match="changes"):
        score(tmp_path / "model.pt", small_ground_truth_data(), "mig")


def test_a_double_module_beyond_float32_is_refused():
    class Huge(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(1e300, dtype=torch.float64))

        def forward(self, images):
            return images.flatten(1)[:, :3] * self.scale

    with pytest.raises(RepresentationError, match="float32"):
        score(Huge(), small_ground_truth_data(), "mig")


@pytest.mark.parametrize("error", [ConfigError, DataError, RepresentationError])
def test_errors_are_one_family(error):
    assert issubclass(error, ChallengeError)
