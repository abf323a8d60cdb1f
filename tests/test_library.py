"""disentanglement_lib's own tests pass with TensorFlow and with its stand-in."""

import importlib.util
import logging
import os
import subprocess
import sys
from pathlib import Path

import disentanglement_lib
import pytest

from disentanglement_challenge import library

pytestmark = pytest.mark.processes
METRICS = Path(disentanglement_lib.__path__[0]) / "evaluation" / "metrics"
# The tests import gin.tf themselves.
SHIM = """
import sys, pytest
from disentanglement_challenge import library, tensorflow_stand_in
if sys.argv[1] == "tensorflow":
    library.use_tensorflow()
assert (library.tensorflow_in_use() == "stand-in") == (sys.argv[1] == "stand-in")
with tensorflow_stand_in.importing_library():
    sys.exit(pytest.main(sys.argv[2:]))
"""
has_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed, and has no wheels for all"
)
ENGINES = ["stand-in", pytest.param("tensorflow", marks=has_tensorflow)]


def run_python(code, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **options.pop("env", {})},
        capture_output=True,
        text=True,
        **options,
    )


def check(code, *arguments, **options):
    result = run_python(code, *arguments, **options)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return result.stdout


def run_library_tests(tmp_path, engine, name):
    flags = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, METRICS / f"{name}_test.py"]
    assert " passed" in check(SHIM, engine, *flags, cwd=tmp_path)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["factor_vae", "mig", "irs", "utils"])
def test_the_librarys_metric_tests(tmp_path, engine, name):
    run_library_tests(tmp_path, engine, name)


# dci_test alone fits boosted trees for two minutes.
@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "name",
    [
        "dci", "sap_score", "beta_vae", "modularity_explicitness", "unsupervised_metrics", "fairness",
        "strong_downstream_task", "unified_scores",
    ],
)  # fmt: skip
def test_the_librarys_slow_metric_tests(tmp_path, engine, name):
    run_library_tests(tmp_path, engine, name)


@pytest.mark.parametrize("engine", ENGINES)
def test_results_are_written_and_read_as_by_tensorflow(tmp_path, engine):
    code = """
import sys
from disentanglement_challenge import library
if sys.argv[1] == "tensorflow":
    library.use_tensorflow()
first, second = sys.argv[2] + "/one", sys.argv[2] + "/two"
library.results.update_result_directory(first, "step", {"score": 0.5})
library.results.update_result_directory(second, "later", {"other": 1}, first)
found = library.results.aggregate_json_results(second + "/json")
assert found["step_results.score"] == 0.5 and found["later_results.other"] == 1, found
assert library.results.gfile.IsDirectory(first) and not library.results.gfile.Exists(first + "/nothing")
with library.results.gfile.Open(first + "/text", "w") as file:
    file.write("\\xf6")
"""
    check(code, engine, tmp_path, env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    assert (tmp_path / "one" / "text").read_bytes() == "ö".encode()


def test_the_import_is_quiet_and_leaves_nothing_behind():
    code = """
import logging, sys
import gin
import disentanglement_challenge.library
assert not logging.getLogger().handlers
assert not {"tensorflow", "tensorflow.compat.v1", "tensorflow.io.gfile", "gin.tf"} & sys.modules.keys()
assert "tf" not in vars(gin)
"""
    result = run_python(code)
    assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)


def test_provenance_says_which_tensorflow_the_scores_had():
    code = """
from disentanglement_challenge.provenance import provenance
assert "tensorflow" not in provenance()["versions"]  # before the library is loaded, as in training
from disentanglement_challenge import library
assert provenance()["versions"]["tensorflow"] == "stand-in"
library.use_tensorflow()
assert provenance()["versions"]["tensorflow"] == library.tensorflow_in_use()
"""
    check(code)


def test_what_the_import_filtered_passes_again(caplog):
    assert library.dci is not None
    logging.getLogger().warning("Argument x is deprecated. Please use y.")
    assert "Please use y" in caplog.text


WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tensorflow":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
"""


def test_without_tensorflow_a_users_own_import_fails_honestly():
    code = """
from disentanglement_challenge import library
library.use_tensorflow()
assert library.tensorflow_in_use() == "stand-in"
for name in ("tensorflow", "tensorflow.compat.v1", "gin.tf"):
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        assert error.name == "tensorflow", error
    else:
        raise SystemExit(f"{name} was imported")
"""
    check(WITHOUT + code)


@has_tensorflow
def test_a_users_own_import_is_the_real_tensorflow_before_and_after():
    code = """
import sys
if sys.argv[1] == "before":
    import tensorflow
    assert tensorflow is sys.modules["tensorflow"]
from disentanglement_challenge import library
assert library.tensorflow_in_use() == "stand-in"
if sys.argv[1] == "after":
    assert "tensorflow" not in sys.modules
import tensorflow
assert tensorflow.constant([1.0]).numpy() == 1 and tensorflow.compat.v1.gfile.Exists(".")
from tensorflow.io import gfile
assert gfile.isdir(".")
library.use_tensorflow()
assert library.tensorflow_in_use() == tensorflow.__version__
assert library.results.gfile is tensorflow.compat.v1.gfile and library.norb.tf is tensorflow.compat.v1
"""
    check(code, "before")
    check(code, "after")


@has_tensorflow
def test_the_real_tensorflow_is_quiet_and_leaves_keras_to_those_who_ask_for_it():
    code = """
import os, sys
from disentanglement_challenge import library
library.use_tensorflow()
assert "keras" not in sys.modules and "TF_USE_LEGACY_KERAS" not in os.environ
sys.stderr.flush()
print("quiet until here", file=sys.stderr, flush=True)
import tensorflow
assert tensorflow.keras.version().startswith("3.") and "keras" in sys.modules
"""
    result = run_python(code)
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("quiet until here")


def test_a_tensorflow_that_cannot_be_imported_is_one_line(tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise RuntimeError('built for numpy 1\\nand so on')\n")
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from disentanglement_challenge import library
from disentanglement_challenge.errors import ConfigError
try:
    library.use_tensorflow()
except ConfigError as error:
    assert "TensorFlow" in str(error) and "RuntimeError: built for numpy 1)" in str(error), error
    assert "\\n" not in str(error), error
else:
    raise SystemExit("no error")
assert library.tensorflow_in_use() == "stand-in"
"""
    check(code, tmp_path)


def test_unified_scores_leave_the_plots_of_a_notebook_alone():
    code = """
import sys, matplotlib
from disentanglement_challenge import library
assert "seaborn" not in sys.modules
matplotlib.use("svg")
assert library.unified_scores.compute_unified_scores
assert matplotlib.get_backend() == "svg" and matplotlib.use.__module__ == "matplotlib"
"""
    check(code)
    with pytest.raises(AttributeError, match="no attribute 'unified_score'"):
        _ = library.unified_score


FIRST = {
    "ours": "import utils_pytorch\nfrom disentanglement_lib.data.ground_truth import named_data",
    "library's": """
from disentanglement_challenge.tensorflow_stand_in import importing_library
with importing_library():
    from disentanglement_lib.data.ground_truth import named_data
import utils_pytorch""",
    "library's, with TensorFlow": """
import gin, sys, tensorflow
sys.modules["gin.tf"] = gin
from disentanglement_lib.data.ground_truth import named_data
import utils_pytorch""",
}


@pytest.mark.parametrize(
    "first", ["ours", "library's", pytest.param("library's, with TensorFlow", marks=has_tensorflow)]
)
def test_a_data_set_s_name_binds_one_thing_whoever_is_imported_first(first, tmp_path):
    code = f"""
{FIRST[first]}
import gin
from disentanglement_challenge.data.named import get_named_ground_truth_data
gin.parse_config("dataset.name = 'dummy_data'")
assert type(named_data.get_named_ground_truth_data()).__name__ == "DummyData"
assert get_named_ground_truth_data().name == "dummy_data"
assert "dataset.name = 'dummy_data'" in gin.operative_config_str()
gin.clear_config()
gin.parse_config("dataset.name = 'nothing'")
try:
    get_named_ground_truth_data()
except Exception as error:
    assert "data set 'nothing'" in str(error), error
else:
    raise SystemExit("no error")
"""
    check(code, env={"DISENTANGLEMENT_LIB_DATA": str(tmp_path)})
