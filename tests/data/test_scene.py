"""The rendered pictures: reproducible, all different, every factor visible; the ray caster against plain geometry."""

import hashlib
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from disentanglement_challenge.data import scene

COUNTS = [6, 6, 2, 3, 3]
WHITE_CUBE = [0, 1, 1, 1, 1]


def _random_scenes(num):
    random_state = np.random.RandomState(0)
    appearance = np.stack([random_state.randint(count, size=num) for count in COUNTS], axis=1)
    return appearance, random_state.uniform(size=(num, 2))


def _num_distinct(images):
    return len({hashlib.sha256(image.tobytes()).digest() for image in images})


def test_render_gives_uint8_pictures_with_light_and_dark():
    images = scene.render(*_random_scenes(200))
    assert images.shape == (200, 64, 64, 3)
    assert images.dtype == np.uint8
    assert 70 < images.mean() < 160
    assert (images.std(axis=(1, 2, 3)) > 20).all()
    assert images.min() < 30
    assert images.max() == 255


def test_render_depends_on_nothing_but_the_factors():
    appearance, axes = _random_scenes(60)
    images = scene.render(appearance, axes)
    np.testing.assert_array_equal(images, scene.render(appearance, axes))
    one_by_one = np.concatenate([scene.render(appearance[i : i + 1], axes[i : i + 1]) for i in range(60)])
    np.testing.assert_array_equal(images, one_by_one)


@pytest.mark.parametrize("threads", ["1", "2"])
def test_render_is_the_same_in_another_process(threads):
    appearance, axes = _random_scenes(60)
    program = (
        "import hashlib, json, sys, numpy as np\n"
        "from disentanglement_challenge.data import scene\n"
        "appearance, axes = json.load(sys.stdin)\n"
        "print(hashlib.sha256(scene.render(np.array(appearance), np.array(axes)).tobytes()).hexdigest())"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        input=f"[{appearance.tolist()}, {axes.tolist()}]",
        env={**os.environ, "NUMBA_NUM_THREADS": threads, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == hashlib.sha256(scene.render(appearance, axes).tobytes()).hexdigest()


@pytest.mark.parametrize("column", range(5))
def test_every_value_of_a_named_factor_is_plain_to_see(column):
    """In each of 20 scenes, any two values differ by at least 24 of 255 in at least ten pixels."""
    appearance, axes = _random_scenes(20)
    pictures = []
    for value in range(COUNTS[column]):
        appearance[:, column] = value
        pictures.append(scene.render(appearance, axes).astype(int))
    for i in range(len(pictures)):
        for j in range(i):
            changed = (np.abs(pictures[i] - pictures[j]).max(axis=-1) >= 24).sum(axis=(1, 2))
            assert changed.min() >= 10


@pytest.mark.parametrize("axis", [0, 1])
def test_every_step_of_an_axis_moves_small_and_large_objects(axis):
    steps = np.linspace(0, 1, 40)
    for appearance in ([4, 5, 0, 2, 0], [0, 2, 1, 0, 2], [2, 0, 0, 1, 1]):
        for other in (0.0, 0.5, 1.0):
            axes = np.full((40, 2), other)
            axes[:, axis] = steps
            images = scene.render(np.tile(appearance, (40, 1)), axes)
            changed = (images[1:] != images[:-1]).any(axis=-1).sum(axis=(1, 2))
            assert changed.min() >= 20


def test_a_dense_neighbourhood_has_no_two_pictures_alike():
    """All shapes and sizes at neighbouring positions in a corner of the full set's axes, from every camera."""
    grid = np.indices((6, 2, 3, 8, 8)).reshape(5, -1)
    appearance = np.stack([np.full(grid.shape[1], 4), grid[0], grid[1], grid[2], np.zeros_like(grid[0])], axis=1)
    axes = np.stack([grid[3] / 39, (39 - grid[4]) / 39], axis=1)
    assert _num_distinct(scene.render(appearance, axes)) == grid.shape[1]


def test_the_object_has_its_colour_and_its_size_in_pixels():
    """Only the object's pixels change with its colour: they span 5 to 22, and more for the large size."""
    _, axes = _random_scenes(30)
    for shape in range(6):
        extents = []
        for size in (0, 1):
            red = scene.render(np.tile([2, shape, size, 1, 0], (30, 1)), axes).astype(int)
            blue = scene.render(np.tile([3, shape, size, 1, 0], (30, 1)), axes).astype(int)
            shown = np.abs(red - blue).max(axis=-1) > 24
            assert (red[shown][:, 0] > red[shown][:, 2]).mean() > 0.95
            assert (blue[shown][:, 2] > blue[shown][:, 0]).mean() > 0.95
            extents.append([max(np.ptp(axis) + 1 for axis in np.nonzero(picture)) for picture in shown])
        assert np.min(extents[0]) >= 5
        assert np.max(extents[1]) <= 22
        assert (np.array(extents[1]) > np.array(extents[0])).all()


def test_the_object_stays_inside_the_picture_and_in_sight():
    corners = np.array([(h, v) for h in (0, 0.5, 1) for v in (0, 0.5, 1)])
    for shape in range(6):
        for camera in range(3):
            red = scene.render(np.tile([2, shape, 1, camera, 0], (9, 1)), corners).astype(int)
            blue = scene.render(np.tile([3, shape, 1, camera, 0], (9, 1)), corners).astype(int)
            shown = (red != blue).any(axis=-1)
            assert not shown[:, [0, -1]].any()
            assert not shown[:, :, [0, -1]].any()
            assert (shown.sum(axis=(1, 2)) > 40).all()


@pytest.mark.parametrize("shape", list(scene.SHAPES))
def test_rays_meet_the_solids_where_stepping_along_them_does(shape):
    """The closed forms agree with a march in steps of 0.001 through each solid, defined as a set of points."""
    sides, tapers, radius, half_height = scene._SHAPE_TABLE[list(scene.SHAPES).index(shape)]
    starts, ends, radii, planes = np.empty((8, 3)), np.empty((8, 3)), np.empty(8), np.empty((8, 4))
    yaw = 0.3
    placed = scene._pose(
        1.0, scene._SHAPE_TABLE[list(scene.SHAPES).index(shape)], yaw, 0.4, starts, ends, radii, planes
    )
    center = starts[scene._OBJECT]

    def inside(points):
        x, y, z = (points - center).T
        if sides < 0:
            return x**2 + y**2 + z**2 < radius**2
        shrink = (half_height - z) / (2 * half_height) if tapers else 1.0
        if sides == 0:
            across = np.hypot(x, y)
        else:
            angles = yaw + 2 * math.pi * np.arange(sides) / sides
            across = (x[:, None] * np.sin(angles) - y[:, None] * np.cos(angles)).max(axis=1)
        return (across < radius * shrink) & (np.abs(z) < half_height)

    random_state = np.random.RandomState(1)
    steps = np.arange(0, 8, 1e-3)
    hits = 0
    for _ in range(200):
        origin = center + 4 * _unit(random_state.normal(size=3))
        direction = _unit(center + random_state.uniform(-1, 1, size=3) - origin)
        entered = inside(origin + steps[:, None] * direction)
        t, *normal = scene._hit_part(scene._OBJECT, origin, direction, starts, ends, radii, placed, planes)
        if entered.sum() < 5:
            continue  # the ray only grazes the solid, which the march may miss
        hits += 1
        assert t == pytest.approx(steps[entered.argmax()], abs=2e-3)
        assert np.linalg.norm(normal) == pytest.approx(1)
        assert np.dot(normal, direction) < 0
    assert hits > 50


def _unit(vector):
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize(
    ("appearance", "axes"), [([6, 0, 0, 0, 0], [0, 0]), ([-1, 0, 0, 0, 0], [0, 0]), (WHITE_CUBE, [0, 1.5])]
)
def test_values_out_of_range_are_refused(appearance, axes):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        scene.render(np.array([appearance]), np.array([axes], dtype=float))
