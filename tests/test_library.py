"""disentanglement_lib's own tests pass under the shim."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import disentanglement_lib
import pytest

from disentanglement_challenge import library

METRICS = Path(disentanglement_lib.__path__[0]) / "evaluation" / "metrics"
SHIM = "import sys, pytest, disentanglement_challenge.library; sys.exit(pytest.main(sys.argv[1:]))"


def run_library_tests(tmp_path, *files):
    return subprocess.run(
        [sys.executable, "-c", SHIM, "-q", "-p", "no:cacheprovider", "-c", os.devnull, *map(str, files)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("name", ["factor_vae", "mig", "irs", "utils"])
def test_the_librarys_metric_tests(tmp_path, name):
    result = run_library_tests(tmp_path, METRICS / f"{name}_test.py")
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    assert " passed" in result.stdout


# dci_test alone fits boosted trees for two minutes.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["dci", "sap_score", "beta_vae", "modularity_explicitness", "unsupervised_metrics"])
def test_the_librarys_slow_metric_tests(tmp_path, name):
    result = run_library_tests(tmp_path, METRICS / f"{name}_test.py")
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]


def test_the_import_is_quiet_and_leaves_the_root_logger_alone():
    code = "import logging; import disentanglement_challenge.library; assert not logging.getLogger().handlers"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == ""
    assert result.stderr == ""


def test_what_the_import_filtered_passes_again(caplog):
    assert library.dci is not None
    logging.getLogger().warning("Argument x is deprecated. Please use y.")
    assert "Please use y" in caplog.text


def test_the_import_leaves_keras_to_those_who_ask_for_it():
    code = """
import os, sys
import disentanglement_challenge.library, tensorflow
assert "keras" not in sys.modules and "TF_USE_LEGACY_KERAS" not in os.environ
assert tensorflow.keras.version().startswith("3.") and "keras" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
