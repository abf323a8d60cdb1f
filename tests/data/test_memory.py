"""The memory for a full-size MPI3D: converting an official .npz of 12.7 GB and training on it take less than 2 GB."""

import os
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from conftest import ROOT

from disentanglement_challenge.data import embedded

LIMIT = 2e9

# Runs a script and prints its peak memory, including mapped pages of files, as the system counts it for this process
# alone (a child's ru_maxrss starts at its parent's).
MEASURED = """
import atexit, runpy, sys
def report():
    peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print("peak_kilobytes", peak, flush=True)
atexit.register(report)
sys.argv = sys.argv[1:]
sys.path.insert(0, ".")
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def peak_bytes(path, script, *arguments):
    result = subprocess.run(
        [sys.executable, "-c", MEASURED, script, *arguments],
        env={**os.environ, "DISENTANGLEMENT_LIB_DATA": str(path), "AICROWD_OUTPUT_PATH": str(path / "output")},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return 1024 * int(result.stdout.split("peak_kilobytes")[1])


def rendered_images():
    """Yield the images of mpi3d_embedded_full, in order, 1024 at a time."""
    values, steps = embedded._VALUES["mpi3d_embedded_full"]
    sizes = embedded.SIZES["mpi3d_embedded_full"]
    for start in range(0, int(np.prod(sizes)), 1024):
        indices = np.arange(start, min(start + 1024, np.prod(sizes)))
        yield embedded.render_factors(np.stack(np.unravel_index(indices, sizes), axis=1), values, steps)


def write_official(path, batches):
    """Write 1,036,800 images as numpy.savez would, which needs them all in memory."""
    path.parent.mkdir(parents=True)
    header = {"descr": "|u1", "fortran_order": False, "shape": (1_036_800, 64, 64, 3)}
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive,
        archive.open("images.npy", "w", force_zip64=True) as out,
    ):
        np.lib.format.write_array_header_1_0(out, header)
        for images in batches:
            out.write(images.data)


def convert_and_train(path, batches):
    """Return the peak bytes of the conversion, and of training on 128,000 random images."""
    write_official(path / "mpi3d_toy" / "mpi3d_toy.npz", batches)
    converting = peak_bytes(path, "disentanglement_challenge/data/__main__.py", "download", "mpi3d_toy")
    narrow = ("conv_encoder.width = 0.25", "deconv_decoder.width = 0.25", "fc_discriminator.width = 0.02")
    bindings = ("model.training_steps = 2000", *narrow)
    flags = [flag for binding in bindings for flag in ("--gin_bindings", binding)]
    return converting, peak_bytes(path, "train_pytorch.py", "--dataset", "mpi3d_toy", *flags)


@pytest.mark.slow
def test_converting_and_training_stay_below_2_gb(tmp_path):
    if shutil.disk_usage(tmp_path).free < 30e9:
        pytest.skip("needs 30 GB of disk")
    try:
        converting, training = convert_and_train(tmp_path, rendered_images())
    finally:
        shutil.rmtree(tmp_path / "mpi3d_toy")  # pytest keeps the folders of its last three runs
    print(f"peak memory: {converting / 1e9:.2f} GB converting, {training / 1e9:.2f} GB training")
    assert converting < LIMIT
    assert training < LIMIT
