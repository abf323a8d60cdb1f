"""The user's own images, as pictures with a table and as an .npz."""

import re
import subprocess
import sys

import numpy as np
import official
import pytest
from conftest import ROOT
from messages import facts
from numpy.random import RandomState
from PIL import Image

from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.data.folder import FolderData
from disentanglement_challenge.data.named import get_named_ground_truth_data
from disentanglement_challenge.errors import ConfigError, DataError

COLORS, ANGLES = ["blue", "red"], ["9", "10", "100"]


def write_pictures(folder, channels=3, table=True, place="picture{}.png"):
    """Write six pictures in random order; picture i has the i-th combination of COLORS and ANGLES."""
    folder.mkdir(parents=True, exist_ok=True)
    images = official.pixels(6, 64, 64, channels)
    rows = ["file,color,angle"]
    for i in RandomState(3).permutation(6):
        picture = images[i] if channels == 3 else images[i, ..., 0]
        file = folder / place.format(i, color=COLORS[i // 3], angle=ANGLES[i % 3])
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(file)
        rows.append(f"{file.relative_to(folder)}, {COLORS[i // 3]}, {ANGLES[i % 3]}")
    if table:
        (folder / "factors.csv").write_text("\n".join(rows) + "\n")
    return images


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_and_their_table(tmp_path, channels):
    images = write_pictures(tmp_path / "mine", channels)
    data = FolderData(tmp_path / "mine")
    assert data.factor_names == ["color", "angle"]
    assert data.factors_num_values == [2, 3]
    assert data.observation_shape == [64, 64, channels]
    # Words in alphabetical order, numbers by size: combination i is picture i.
    factors = np.stack(np.unravel_index(np.arange(6), [2, 3]), axis=1)
    observed = data.sample_observations_from_factors(factors, RandomState(0))
    np.testing.assert_array_equal(observed, images / np.float32(255))
    np.testing.assert_array_equal(data.index_to_factors(data.factors_to_index(factors)), factors)


@pytest.mark.parametrize("header", ["file", "File", "filename", "image"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_as_other_programs_write_them(tmp_path, header, separator):
    write_pictures(tmp_path / "plain")
    expected = FolderData(tmp_path / "plain")
    write_pictures(tmp_path / "other")
    table = tmp_path / "other" / "factors.csv"
    text = table.read_text().replace("file,", f"{header},").replace(", ", ",").replace(",", separator)
    table.write_text("\ufeff" + text, encoding="utf-8")
    data = FolderData(tmp_path / "other")
    assert data.factor_names == expected.factor_names
    np.testing.assert_array_equal(data.images, expected.images)


def test_an_id_is_named(tmp_path):
    write_pictures(tmp_path)
    table = tmp_path / "factors.csv"
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{header},number", *(f"{row},{i}" for i, row in enumerate(rows))]))
    with pytest.raises(DataError, match=facts(tmp_path, "'number'", "every image")):
        FolderData(tmp_path)


def test_pictures_of_other_sizes_are_scaled_when_asked_to(tmp_path):
    """Pillow scales them, also after a conversion without scaling."""
    write_pictures(tmp_path)
    unscaled = np.array(FolderData(tmp_path).images)
    for file in tmp_path.glob("*.png"):
        picture = Image.open(file)
        picture.resize((128, 96), Image.Resampling.NEAREST).save(file)
    with pytest.raises(DataError, match=facts(tmp_path, "128 x 96", "64 x 64", "folder.resize = True")):
        FolderData(tmp_path)
    binding = [f"folder.path = '{tmp_path}'", "folder.resize = True", "dataset.name = 'folder'"]
    with gin_configuration([], binding):
        data = get_named_ground_truth_data()
    first = Image.open(tmp_path / "picture0.png").resize((64, 64), Image.Resampling.LANCZOS)
    index = data.factors_to_index(np.array([[0, 0]]))
    np.testing.assert_array_equal(data.images[index[0]], np.array(first))
    assert data.images.shape == unscaled.shape
    with (
        gin_configuration([], [*binding, "folder.resize = 'yes'"]),
        pytest.raises(ConfigError, match=facts("folder.resize", "'yes'")),
    ):
        get_named_ground_truth_data()


def test_transparent_pictures_lose_their_alpha_with_a_line(tmp_path, caplog):
    images = write_pictures(tmp_path)
    for i in range(1, 4):
        with_alpha = np.concatenate([images[i], np.full((64, 64, 1), 100, np.uint8)], axis=2)
        Image.fromarray(with_alpha).save(tmp_path / f"picture{i}.png")
    data = FolderData(tmp_path)
    factors = np.stack(np.unravel_index(np.arange(6), [2, 3]), axis=1)
    np.testing.assert_array_equal(data.images[data.factors_to_index(factors)], images)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "alpha channel" in line


def test_a_transparent_colour_is_an_alpha_channel(tmp_path, caplog):
    images = write_pictures(tmp_path)
    Image.fromarray(images[4]).save(tmp_path / "picture4.png", transparency=tuple(map(int, images[4][0, 0])))
    data = FolderData(tmp_path)
    np.testing.assert_array_equal(data.images[data.factors_to_index(np.array([[1, 1]]))], images[4:5])
    (line,) = [record.getMessage() for record in caplog.records]
    assert re.match(facts("picture4.png", "alpha channel"), line)


@pytest.mark.parametrize("place", ["picture{}.png", "{color}/{angle}.png"])
def test_a_changed_picture_is_read_again(tmp_path, place):
    write_pictures(tmp_path, place=place)
    for picture in sorted(tmp_path.rglob("*.png")):
        before = np.array(FolderData(tmp_path).images)
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(picture)
        after = FolderData(tmp_path).images
        assert (before != after).any(axis=(1, 2, 3)).sum() == 1


def test_an_npz(tmp_path):
    images = official.pixels(6, 64, 64, seed=1)
    factors = np.array([[5, 0.5], [5, 1.5], [2, 0.5], [2, 1.5], [9, 1.5], [9, 0.5]])
    np.savez(tmp_path / "mine.npz", images=images, factors=factors, factor_names=np.array(["a", "b"]))
    with gin_configuration([], [f"folder.path = '{tmp_path}/mine.npz'"]):
        data = get_named_ground_truth_data("folder")
    assert data.factor_names == ["a", "b"]
    assert data.factors_num_values == [3, 2]
    assert data.observation_shape == [64, 64, 1]
    expected = images[[2, 3, 0, 1, 5, 4]][..., None] / np.float32(255)
    combinations = np.stack(np.unravel_index(np.arange(6), [3, 2]), axis=1)
    np.testing.assert_array_equal(data.sample_observations_from_factors(combinations, RandomState(0)), expected)


def test_factors_of_an_npz_may_lie_in_columns(tmp_path):
    """As those that were a table of pandas."""
    factors = np.asfortranarray(np.stack(np.unravel_index(np.arange(6), [3, 2]), axis=1))
    np.savez(tmp_path / "mine.npz", images=official.pixels(6, 64, 64), factors=factors)
    with gin_configuration([], [f"folder.path = '{tmp_path}/mine.npz'"]):
        assert get_named_ground_truth_data("folder").factors_num_values == [3, 2]


def test_the_default_place_is_the_data_sets_folder(tmp_path, monkeypatch):
    write_pictures(tmp_path / "folder")
    monkeypatch.setenv("DISENTANGLEMENT_LIB_DATA", str(tmp_path))
    assert get_named_ground_truth_data("folder").factors_num_values == [2, 3]


@pytest.mark.parametrize("as_npz", [False, True])
def test_without_factors_every_image_is_drawn_and_none_is_scored(tmp_path, as_npz):
    path = tmp_path / "mine.npz"
    if as_npz:
        images = official.pixels(6, 64, 64, 3)
        np.savez_compressed(path, images=images)
    else:
        path = tmp_path / "mine"
        images = write_pictures(path, table=False)
    data = FolderData(path)
    assert data.num_factors == 0
    assert "no factors" in data.note
    drawn = data.sample_observations(200, RandomState(0))
    pixels = {image.tobytes() for image in np.round(drawn * 255).astype(np.uint8)}
    assert pixels == {image.tobytes() for image in images}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("", ["factors.csv", "''", "'file'"]),
        ("name,color\n", ["factors.csv", "'name, color'", "'file'"]),
        ("file\npicture0.png\n", ["factors.csv", "first line", "'file'"]),
        ("file,color\npicture0.png,red,2\n", ["factors.csv", "row 2", "3 values", "2 columns"]),
        ("file,color\npicture0.png,red\npicture0.png,blue\n", ["factors.csv", "picture0.png", "rows"]),
        ("file,color\npicture9.png,red\n", ["no picture", "picture9.png", "factors.csv"]),
        (
            "file,a,b\npicture0.png,1,1\npicture1.png,1,2\npicture2.png,2,1\n",
            ["(2 a x 2 b)", "4 combinations", "3 images", "a 2, b 2 has none"],
        ),
        (
            "file,a\npicture0.png,red\npicture1.png,red\n",
            ["(1 a)", "1 combinations", "2 images", "a red has 2"],
        ),
        (b"file,a\n\xff\xfe,1\n", ["factors.csv", "utf-8"]),
        ("file,a\npicture0.png,1\npicture1.png,nan\n", ["factor 'a'", "image 1", "not a number"]),
        (f"file{',a' * 64}\npicture0.png{',1' * 64}\n", ["64 factors", 63]),
        ("file,a\n", ["factors.csv", "no rows"]),
    ],
)
def test_tables_that_do_not_fit(tmp_path, table, said):
    write_pictures(tmp_path)
    (tmp_path / "factors.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    with pytest.raises(DataError, match=facts(tmp_path, *said)) as error:
        FolderData(tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "converted").exists()


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (np.zeros((32, 64, 3), np.uint8), ["64 x 32", "64 x 64", "folder.resize = True"]),
        (np.zeros((64, 64), np.uint8), [1, 3, "channel"]),
        (np.zeros((64, 64), np.uint16), ["mode I;16", "(L)", "(RGB)"]),
    ],
)
def test_pictures_that_do_not_fit(tmp_path, picture, said):
    write_pictures(tmp_path)
    Image.fromarray(picture).save(tmp_path / "picture4.png")
    with pytest.raises(DataError, match=facts("picture4.png", *said)):
        FolderData(tmp_path)


def test_a_damaged_picture(tmp_path):
    write_pictures(tmp_path)
    (tmp_path / "picture4.png").write_text("no picture")
    with pytest.raises(DataError, match=facts("picture4.png", "picture that Pillow can read")):
        FolderData(tmp_path)
    good = (tmp_path / "picture3.png").read_bytes()
    (tmp_path / "picture4.png").write_bytes(good[: len(good) // 2])
    with pytest.raises(DataError, match=facts("picture4.png", "truncated")):
        FolderData(tmp_path)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"imgs": np.zeros(3)}, ["'images'", "imgs"]),
        ({"images": official.pixels(2, 64, 64), "labels": np.eye(2)}, ["'labels'", "'factors'"]),
        ({"images": official.pixels(2, 64, 64), "Factors": np.eye(2)}, ["'Factors'", "'factors'"]),
        ({"images": np.zeros((4, 64, 64, 3))}, ["images", "float64", "uint8"]),
        ({"images": np.zeros((4, 32, 32), np.uint8)}, ["images", "(4, 32, 32)", "(N, 64, 64, channels)"]),
        ({"images": np.zeros((4, 64, 64, 2), np.uint8)}, ["images", "(4, 64, 64, 2)", "1 or 3 channels"]),
        ({"images": np.zeros((0, 64, 64), np.uint8)}, ["images", "(0, 64, 64)"]),
        (
            {"images": official.pixels(4, 64, 64), "factors": np.zeros((3, 1))},
            ["factors", "(3, 1)", "(4, num_factors)"],
        ),
        ({"images": official.pixels(4, 64, 64), "factors": np.zeros(4)}, ["factors", "(4,)", "(4, num_factors)"]),
        ({"images": official.pixels(4, 64, 64), "factors": np.array([["a"]] * 4)}, ["factors", "<U1", "numbers"]),
        ({"images": official.pixels(4, 64, 64), "factors": np.zeros((4, 1))}, ["1 combinations", "4 images"]),
        ({"images": official.pixels(1, 64, 64), "factors": np.full((1, 1), np.nan)}, ["'factor_0'", "image 0"]),
        (
            {"images": official.pixels(2, 64, 64), "factors": np.eye(2)[:, :1], "factor_names": np.array(["a", "b"])},
            ["factor_names", "(2,)", "1 strings"],
        ),
    ],
)
def test_npz_files_that_do_not_fit(tmp_path, arrays, said):
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(DataError, match=facts(tmp_path / "mine.npz", *said)):
        FolderData(tmp_path / "mine.npz")


@pytest.mark.parametrize(
    ("row", "column"),
    [("picture0.png,,9", "'color'"), (" ,blue,9", "'file'")],
)
def test_an_empty_cell_is_named(tmp_path, row, column):
    write_pictures(tmp_path)
    lines = (tmp_path / "factors.csv").read_text().splitlines()
    (tmp_path / "factors.csv").write_text("\n".join([lines[0], row, *lines[2:]]))
    with pytest.raises(DataError, match=facts(tmp_path / "factors.csv", "row 2", column)):
        FolderData(tmp_path)


def test_a_table_whose_name_is_nearly_right_is_named(tmp_path):
    write_pictures(tmp_path)
    (tmp_path / "factors.csv").rename(tmp_path / "Factors.csv")
    with pytest.raises(DataError, match=facts(tmp_path / "Factors.csv", "factors.csv")):
        FolderData(tmp_path)


READ = """
import sys
from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.data.named import get_named_ground_truth_data
from disentanglement_challenge.errors import OutputError
path, *cache = sys.argv[1:]
with gin_configuration([], [f"folder.path = {path!r}", *(f"folder.cache = {folder!r}" for folder in cache)]):
    try:
        print(get_named_ground_truth_data("folder").factors_num_values)
    except OutputError as error:
        print(error)
"""


@pytest.mark.parametrize("kind", ["pictures", "npz"])
def test_images_that_lie_where_nothing_can_be_written_are_converted_elsewhere(tmp_path, kind):
    """The folder is a separate read-only mount, which not even root can write."""
    mine, cache = tmp_path / "mine", tmp_path / "cache"
    images = write_pictures(mine)
    path = mine
    if kind == "npz":
        path = mine / "mine.npz"
        np.savez(path, images=images, factors=np.stack(np.unravel_index(np.arange(6), [2, 3]), axis=1))
    mount = f'mount --bind {mine} {mine} && mount -o remount,ro,bind {mine} && exec "$@"'
    command = ["unshare", "--mount", "--map-root-user", "bash", "-c", mount, "bash"]
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("this kernel lets no process mount a file system of its own")

    def read(*arguments):
        program = [*command, sys.executable, "-c", READ, path, *arguments]
        return subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert re.match(facts(mine, "Read-only file system", "folder.cache"), read())
    assert read(cache) == read(cache) == "[2, 3]\n"
    assert (cache / "images.npy").exists()


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match=facts(f"folder {tmp_path}/nothing", "folder.path")):
        FolderData(tmp_path / "nothing")
    with pytest.raises(DataError, match=facts(f"file {tmp_path}/nothing.npz", "folder.path")):
        FolderData(tmp_path / "nothing.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=facts(tmp_path / "empty", "no pictures")):
        FolderData(tmp_path / "empty")
