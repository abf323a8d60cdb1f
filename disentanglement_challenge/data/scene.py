"""A ray-cast robot arm that carries an object: the pictures of the embedded data set.

The scene is a stand-in for MPI3D (Gondal et al., "On the Transfer of Inductive Bias from Simulation to the Real World:
A New Disentanglement Dataset", NeurIPS 2019): it has the same seven factors and none of its pixels, so scores on it are
not the challenge's.

World coordinates are right-handed with z up. The arm turns about the z axis, and the cameras are at negative y. Colours
are summed in linear light. A picture depends only on its factors, not on threads, chunks or other pictures. Between
machines only the sine and cosine of a few angles may be rounded differently.
"""

# The compiled functions accept the types that numba infers, tuples and arrays. Their docstrings give the shapes.
# mypy: disallow-untyped-defs=False

import math

import numpy as np
from numba import prange
from numpy.typing import NDArray

from disentanglement_challenge.compiled import compiled

IMAGE_SIZE = 64

# Display values in [0, 1]. They are squared below: a display's response is close to a square, and sqrt is exact.
COLORS = {
    "white": (0.97, 0.97, 0.97),
    "green": (0.10, 0.74, 0.16),
    "red": (0.90, 0.08, 0.10),
    "blue": (0.12, 0.28, 0.95),
    "brown": (0.46, 0.25, 0.10),
    "olive": (0.62, 0.62, 0.08),
}
# Sides of the cross-section (0: circle, -1: ball), whether it tapers to a point, its inner radius, half its height.
# The proportions differ, so that the outline identifies a shape even if a low camera shows little of its top.
SHAPES = {
    "cone": (0, 1, 0.88, 1.00),
    "cube": (4, 0, 0.76, 0.76),
    "cylinder": (0, 0, 0.58, 1.00),
    "hexagonal": (6, 0, 0.86, 0.48),
    "pyramid": (4, 1, 0.83, 0.72),
    "sphere": (-1, 0, 0.92, 0.92),
}
SIZES = {"small": 0.26, "large": 0.42}
# The camera's elevation above the horizon in degrees.
CAMERAS = {"top": 44.0, "center": 27.0, "bottom": 10.0}
BACKGROUNDS = {
    "purple": (0.50, 0.27, 0.66),
    "sea_green": (0.20, 0.62, 0.50),
    "salmon": (0.98, 0.60, 0.52),
}
# Degrees; zero horizontal points at the camera. The angle between the forearm and the upper arm is fixed.
HORIZONTAL_RANGE = (-90.0, 90.0)
VERTICAL_RANGE = (-6.0, 68.0)
_ELBOW = 38.0

_SAMPLES = 3  # rays along each edge of a pixel
_FOCAL = 98.0  # in pixels
_DISTANCE = 6.3  # from the camera to the point that it looks at
_TARGET = np.array([0.0, 0.0, 1.14])
_WALL_Y = 3.4

_BASE_HEIGHT, _BASE_RADIUS = 0.62, 0.30
_SHOULDER_HEIGHT, _SHOULDER_RADIUS = 0.74, 0.25
_UPPER_LENGTH, _UPPER_RADIUS = 0.82, 0.13
_ELBOW_RADIUS = 0.17
_FORE_LENGTH, _FORE_RADIUS = 0.72, 0.10
_WRIST_RADIUS = 0.13
_PLATE_BOTTOM, _PLATE_TOP, _PLATE_RADIUS = 0.08, 0.16, 0.21
_TURNTABLE_RADIUS = 0.62

_LIGHT = np.array([-0.50, -0.48, 0.86]) / np.linalg.norm([-0.50, -0.48, 0.86])
_AMBIENT, _DIFFUSE, _SPECULAR = 0.24, 0.80, 0.22

_BASE, _SHOULDER, _UPPER, _ELBOW_JOINT, _FOREARM, _WRIST, _PLATE, _OBJECT = range(8)
_NUM_PARTS = 8
_IS_BALL = np.array([False, True, False, True, False, True, False, False])
_METAL, _JOINT, _DARK = (0.60, 0.62, 0.66), (0.95, 0.60, 0.10), (0.24, 0.25, 0.29)
_PART_COLORS = np.square([_DARK, _JOINT, _METAL, _JOINT, _METAL, _JOINT, _DARK])
_WALL_COLOR = np.square([0.42, 0.44, 0.48])
_TURNTABLE_COLOR = np.square([0.36, 0.37, 0.41])
_OBJECT_COLORS = np.square(list(COLORS.values()))
_FLOOR_COLORS = np.square(list(BACKGROUNDS.values()))
_SHAPE_TABLE = np.array(list(SHAPES.values()))
_SIZE_TABLE = np.array(list(SIZES.values()))


def _camera_frames() -> NDArray[np.float64]:
    """Return float64 [camera, 4, 3]: position, then the unit vectors right, up and forward."""
    frames = []
    for degrees in CAMERAS.values():
        elevation = math.radians(degrees)
        forward = np.array([0.0, math.cos(elevation), -math.sin(elevation)])
        right = np.array([1.0, 0.0, 0.0])
        frames.append([_TARGET - _DISTANCE * forward, right, np.cross(right, forward), forward])
    return np.array(frames)


_CAMERA_FRAMES = _camera_frames()


@compiled()
def _hit_ball(origin, direction, center, radius):
    """Return where a ray enters a ball, as (distance or inf, normal)."""
    x, y, z = origin[0] - center[0], origin[1] - center[1], origin[2] - center[2]
    b = x * direction[0] + y * direction[1] + z * direction[2]
    discriminant = b * b - (x * x + y * y + z * z - radius * radius)
    if discriminant <= 0.0:
        return np.inf, 0.0, 0.0, 0.0
    t = -b - math.sqrt(discriminant)
    if t <= 0.0:
        return np.inf, 0.0, 0.0, 0.0
    return t, (x + t * direction[0]) / radius, (y + t * direction[1]) / radius, (z + t * direction[2]) / radius


@compiled()
def _hit_cylinder(origin, direction, start, end, radius):
    """Return where a ray enters a closed cylinder: the later entry of tube and slab, if it is before both exits."""
    ax, ay, az = end[0] - start[0], end[1] - start[1], end[2] - start[2]
    length = math.sqrt(ax * ax + ay * ay + az * az)
    ax, ay, az = ax / length, ay / length, az / length
    x, y, z = origin[0] - start[0], origin[1] - start[1], origin[2] - start[2]
    along_d = ax * direction[0] + ay * direction[1] + az * direction[2]
    along_o = ax * x + ay * y + az * z
    # Components perpendicular to the axis.
    dx, dy, dz = direction[0] - along_d * ax, direction[1] - along_d * ay, direction[2] - along_d * az
    ox, oy, oz = x - along_o * ax, y - along_o * ay, z - along_o * az
    a = dx * dx + dy * dy + dz * dz
    b = ox * dx + oy * dy + oz * dz
    c = ox * ox + oy * oy + oz * oz - radius * radius
    discriminant = b * b - a * c
    if discriminant <= 0.0 or a < 1e-12 or abs(along_d) < 1e-12:
        return np.inf, 0.0, 0.0, 0.0
    root = math.sqrt(discriminant)
    tube_in, tube_out = (-b - root) / a, (-b + root) / a
    slab_in, slab_out = -along_o / along_d, (length - along_o) / along_d
    sign = -1.0
    if slab_in > slab_out:
        slab_in, slab_out = slab_out, slab_in
        sign = 1.0
    t = max(tube_in, slab_in)
    if t <= 0.0 or t >= min(tube_out, slab_out):
        return np.inf, 0.0, 0.0, 0.0
    if slab_in > tube_in:
        return t, sign * ax, sign * ay, sign * az
    return t, (ox + t * dx) / radius, (oy + t * dy) / radius, (oz + t * dz) / radius


@compiled()
def _hit_cone(origin, direction, center, radius, half_height):
    """Return where a ray enters an upright cone: the nearest hit of its side (two candidates) and its base."""
    slope = radius / (2.0 * half_height)
    x, y, drop = origin[0] - center[0], origin[1] - center[1], center[2] + half_height - origin[2]
    dx, dy, dz = direction[0], direction[1], direction[2]
    squared = slope * slope
    a = dx * dx + dy * dy - squared * dz * dz
    b = x * dx + y * dy + squared * drop * dz
    discriminant = b * b - a * (x * x + y * y - squared * drop * drop)
    best, nx, ny, nz = np.inf, 0.0, 0.0, 0.0
    if discriminant > 0.0 and abs(a) > 1e-12:
        root = math.sqrt(discriminant)
        for t in ((-b - root) / a, (-b + root) / a):
            below_apex = drop - t * dz
            if 0.0 < t < best and 0.0 < below_apex < 2.0 * half_height:
                best = t
                nx, ny, nz = x + t * dx, y + t * dy, squared * below_apex
    if dz > 1e-12:  # only a rising ray hits the base from outside
        t = (drop - 2.0 * half_height) / dz
        if 0.0 < t < best and (x + t * dx) ** 2 + (y + t * dy) ** 2 < radius * radius:
            return t, 0.0, 0.0, -1.0
    if best < np.inf:
        norm = math.sqrt(nx * nx + ny * ny + nz * nz)
        return best, nx / norm, ny / norm, nz / norm
    return best, nx, ny, nz


@compiled()
def _hit_planes(origin, direction, planes, num_planes):
    """Return where a ray enters the solid {p: normal . p <= offset for each plane}; planes is [>= num_planes, 4]."""
    enter, leave, entered = 0.0, np.inf, -1
    for i in range(num_planes):
        toward = planes[i, 0] * direction[0] + planes[i, 1] * direction[1] + planes[i, 2] * direction[2]
        room = planes[i, 3] - (planes[i, 0] * origin[0] + planes[i, 1] * origin[1] + planes[i, 2] * origin[2])
        if toward < -1e-12:
            t = room / toward
            if t > enter:
                enter, entered = t, i
        elif toward > 1e-12:
            leave = min(leave, room / toward)
        elif room < 0.0:
            return np.inf, 0.0, 0.0, 0.0
    if entered < 0 or enter >= leave:
        return np.inf, 0.0, 0.0, 0.0
    return enter, planes[entered, 0], planes[entered, 1], planes[entered, 2]


@compiled()
def _hit_part(part, origin, direction, starts, ends, radii, shape, planes):
    """Return where a ray enters one part of the scene, as (distance or inf, normal)."""
    if _IS_BALL[part]:
        return _hit_ball(origin, direction, starts[part], radii[part])
    if part != _OBJECT:
        return _hit_cylinder(origin, direction, starts[part], ends[part], radii[part])
    sides, tapers, radius, half_height = shape
    if sides < 0:
        return _hit_ball(origin, direction, starts[part], radius)
    if sides > 0:
        return _hit_planes(origin, direction, planes, int(sides) + (1 if tapers else 2))
    if tapers:
        return _hit_cone(origin, direction, starts[part], radius, half_height)
    low = (starts[part, 0], starts[part, 1], starts[part, 2] - half_height)
    high = (starts[part, 0], starts[part, 1], starts[part, 2] + half_height)
    return _hit_cylinder(origin, direction, low, high, radius)


@compiled()
def _pose(size, shape_row, yaw, lift, starts, ends, radii, planes):
    """Place the parts and return the object's shape in world units.

    Each part lies in the hull of two balls, `starts` and `ends` [part, 3] with `radii` [part]. The function fills these
    arrays and the object's `planes`.
    """
    sides, tapers, unit_radius, unit_half_height = shape_row
    radius, half_height = size * unit_radius, size * unit_half_height
    out_x, out_y = math.sin(yaw), -math.cos(yaw)
    shoulder = (0.0, 0.0, _SHOULDER_HEIGHT)
    reach, rise = _UPPER_LENGTH * math.cos(lift), _UPPER_LENGTH * math.sin(lift)
    elbow = (reach * out_x, reach * out_y, _SHOULDER_HEIGHT + rise)
    fore_angle = lift - math.radians(_ELBOW)
    reach += _FORE_LENGTH * math.cos(fore_angle)
    wrist = (reach * out_x, reach * out_y, elbow[2] + _FORE_LENGTH * math.sin(fore_angle))
    center = (wrist[0], wrist[1], wrist[2] + _PLATE_TOP + half_height)

    starts[_BASE], ends[_BASE], radii[_BASE] = (0.0, 0.0, 0.0), (0.0, 0.0, _BASE_HEIGHT), _BASE_RADIUS
    starts[_SHOULDER], ends[_SHOULDER], radii[_SHOULDER] = shoulder, shoulder, _SHOULDER_RADIUS
    starts[_UPPER], ends[_UPPER], radii[_UPPER] = shoulder, elbow, _UPPER_RADIUS
    starts[_ELBOW_JOINT], ends[_ELBOW_JOINT], radii[_ELBOW_JOINT] = elbow, elbow, _ELBOW_RADIUS
    starts[_FOREARM], ends[_FOREARM], radii[_FOREARM] = elbow, wrist, _FORE_RADIUS
    starts[_WRIST], ends[_WRIST], radii[_WRIST] = wrist, wrist, _WRIST_RADIUS
    starts[_PLATE] = (wrist[0], wrist[1], wrist[2] + _PLATE_BOTTOM)
    ends[_PLATE] = (wrist[0], wrist[1], wrist[2] + _PLATE_TOP)
    radii[_PLATE] = _PLATE_RADIUS
    starts[_OBJECT], ends[_OBJECT] = center, center
    radii[_OBJECT] = radius
    if sides >= 0.0:
        corner = radius / math.cos(math.pi / sides) if sides > 0.0 else radius
        radii[_OBJECT] = math.sqrt(corner * corner + half_height * half_height)

    for side in range(int(sides)):
        angle = yaw + 2.0 * math.pi * side / sides
        slant = radius / (2.0 * half_height) if tapers else 0.0
        norm = math.sqrt(1.0 + slant * slant)
        nx, ny, nz = math.sin(angle) / norm, -math.cos(angle) / norm, slant / norm
        # Every side contains the base's edge, at the inner radius and half a height below the centre.
        offset = nx * center[0] + ny * center[1] + nz * center[2] + (radius - slant * half_height) / norm
        planes[side] = (nx, ny, nz, offset)
    planes[int(sides)] = (0.0, 0.0, -1.0, half_height - center[2])
    planes[int(sides) + 1] = (0.0, 0.0, 1.0, half_height + center[2])
    return sides, tapers, radius, half_height


@compiled()
def _widen(box, camera, x, y, z, radius):
    """Widen `box` (left, right, top, bottom in pixels) to contain the picture of a ball.

    Along each image axis the ball spans the angles middle - spread to middle + spread; tangents give pixels.
    """
    px, py, pz = x - camera[0, 0], y - camera[0, 1], z - camera[0, 2]
    depth = px * camera[3, 0] + py * camera[3, 1] + pz * camera[3, 2]
    for axis in range(2):
        across = px * camera[1 + axis, 0] + py * camera[1 + axis, 1] + pz * camera[1 + axis, 2]
        middle = across / depth
        spread = radius / math.sqrt(across * across + depth * depth - radius * radius)
        low = _FOCAL * (middle - spread) / (1.0 + middle * spread)
        high = _FOCAL * (middle + spread) / (1.0 - middle * spread)
        if axis == 1:  # rows count downwards
            low, high = -high, -low
        box[2 * axis] = min(box[2 * axis], low + 0.5 * IMAGE_SIZE)
        box[2 * axis + 1] = max(box[2 * axis + 1], high + 0.5 * IMAGE_SIZE)


@compiled()
def _mark(masks, parts, camera, starts, ends, radii):
    """Set bit `part` of pixels that may show a part, and bit `_NUM_PARTS + part` of those that may show its shadow.

    masks: int64 [64, 64]; parts: (first, last + 1); camera: [4, 3]; the others as `_pose` fills them.
    """
    box = np.empty(4)
    for part in range(*parts):
        for shadow in range(2):
            box[:] = (np.inf, -np.inf, np.inf, -np.inf)
            for ball in (starts[part], ends[part]):
                if shadow:  # a ball's shadow lies within its radius, stretched by the light's slant
                    x = ball[0] - ball[2] / _LIGHT[2] * _LIGHT[0]
                    y = ball[1] - ball[2] / _LIGHT[2] * _LIGHT[1]
                    _widen(box, camera, x, y, 0.0, radii[part] / _LIGHT[2])
                else:
                    _widen(box, camera, ball[0], ball[1], ball[2], radii[part])
            bit = 1 << (part + _NUM_PARTS * shadow)
            for row in range(max(0, math.floor(box[2])), min(IMAGE_SIZE, math.ceil(box[3]))):
                for column in range(max(0, math.floor(box[0])), min(IMAGE_SIZE, math.ceil(box[1]))):
                    masks[row, column] |= bit


@compiled()
def _shade(color, direction, nx, ny, nz):
    """Compute Lambert's cosine with a sky that is brighter above, and a highlight (Blinn's half vector, 16th power)."""
    lit = max(0.0, nx * _LIGHT[0] + ny * _LIGHT[1] + nz * _LIGHT[2])
    hx, hy, hz = _LIGHT[0] - direction[0], _LIGHT[1] - direction[1], _LIGHT[2] - direction[2]
    gleam = max(0.0, nx * hx + ny * hy + nz * hz) / math.sqrt(hx * hx + hy * hy + hz * hz)
    for _ in range(4):
        gleam *= gleam
    level = _AMBIENT * (1.0 + 0.5 * nz) + _DIFFUSE * lit
    white = _SPECULAR * gleam
    return color[0] * level + white, color[1] * level + white, color[2] * level + white


@compiled()
def _trace(origin, direction, mask, colors, starts, ends, radii, shape, planes):
    """Return the linear colour (red, green, blue) along a ray.

    mask: the parts and shadows to test, as bits of `_mark`; colors: [part + 1, 3], the floor's last.
    """
    nearest, hit, nx, ny, nz = np.inf, -1, 0.0, 0.0, 0.0
    for part in range(_NUM_PARTS):
        if mask & (1 << part):
            t, x, y, z = _hit_part(part, origin, direction, starts, ends, radii, shape, planes)
            if t < nearest:
                nearest, hit, nx, ny, nz = t, part, x, y, z
    if hit >= 0:
        return _shade(colors[hit], direction, nx, ny, nz)

    to_wall = (_WALL_Y - origin[1]) / direction[1]
    if origin[2] + to_wall * direction[2] > 0.0:
        level = 0.5 + 0.12 * (origin[2] + to_wall * direction[2])
        return _WALL_COLOR[0] * level, _WALL_COLOR[1] * level, _WALL_COLOR[2] * level

    t = -origin[2] / direction[2]
    x, y = origin[0] + t * direction[0], origin[1] + t * direction[1]
    level = _AMBIENT * 1.5 + _DIFFUSE * _LIGHT[2]
    for part in range(_NUM_PARTS):
        if mask & (1 << (_NUM_PARTS + part)) and (
            _hit_part(part, (x, y, 0.0), _LIGHT, starts, ends, radii, shape, planes)[0] < np.inf
        ):
            level = _AMBIENT * 1.5
            break
    squared = x * x + y * y
    level /= 1.0 + 0.03 * squared  # a lamp's pool of light
    color = _TURNTABLE_COLOR if squared < _TURNTABLE_RADIUS**2 else colors[_NUM_PARTS]
    return color[0] * level, color[1] * level, color[2] * level


@compiled()
def _pixel(out, row, column, camera, mask, colors, starts, ends, radii, shape, planes):
    """Average the rays of one pixel in linear light and write its display value to `out`, uint8 [3]."""
    red, green, blue = 0.0, 0.0, 0.0
    origin = (camera[0, 0], camera[0, 1], camera[0, 2])
    for i in range(_SAMPLES):
        up = (0.5 * IMAGE_SIZE - row - (i + 0.5) / _SAMPLES) / _FOCAL
        for j in range(_SAMPLES):
            right = (column + (j + 0.5) / _SAMPLES - 0.5 * IMAGE_SIZE) / _FOCAL
            norm = math.sqrt(1.0 + up * up + right * right)
            direction = (
                (camera[3, 0] + up * camera[2, 0] + right * camera[1, 0]) / norm,
                (camera[3, 1] + up * camera[2, 1] + right * camera[1, 1]) / norm,
                (camera[3, 2] + up * camera[2, 2] + right * camera[1, 2]) / norm,
            )
            r, g, b = _trace(origin, direction, mask, colors, starts, ends, radii, shape, planes)
            red, green, blue = red + min(r, 1.0), green + min(g, 1.0), blue + min(b, 1.0)
    share = 1.0 / (_SAMPLES * _SAMPLES)
    out[0] = int(255.0 * math.sqrt(red * share) + 0.5)
    out[1] = int(255.0 * math.sqrt(green * share) + 0.5)
    out[2] = int(255.0 * math.sqrt(blue * share) + 0.5)


@compiled(parallel=True)
def _render(appearance, angles, images):
    """Fill `images` [N, 64, 64, 3]; `angles` [N, 2] are radians."""
    num_cameras, num_floors = len(_CAMERA_FRAMES), len(_FLOOR_COLORS)
    # Render the fixed parts once for each camera and floor; copy them to pixels that show no moving part.
    fixed_masks = np.zeros((num_cameras, IMAGE_SIZE, IMAGE_SIZE), dtype=np.int64)
    fixed = np.empty((num_cameras, num_floors, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    for view in prange(num_cameras * num_floors):
        starts, ends, radii = np.empty((_NUM_PARTS, 3)), np.empty((_NUM_PARTS, 3)), np.empty(_NUM_PARTS)
        planes, colors = np.empty((8, 4)), np.empty((_NUM_PARTS + 1, 3))
        camera, floor = view // num_floors, view % num_floors
        shape = _pose(1.0, _SHAPE_TABLE[0], 0.0, 0.0, starts, ends, radii, planes)
        colors[: len(_PART_COLORS)] = _PART_COLORS
        colors[_NUM_PARTS] = _FLOOR_COLORS[floor]
        masks = np.zeros((IMAGE_SIZE, IMAGE_SIZE), dtype=np.int64)
        _mark(masks, (0, _UPPER), _CAMERA_FRAMES[camera], starts, ends, radii)
        for row in range(IMAGE_SIZE):
            for column in range(IMAGE_SIZE):
                _pixel(
                    fixed[camera, floor, row, column], row, column, _CAMERA_FRAMES[camera], masks[row, column],
                    colors, starts, ends, radii, shape, planes,
                )  # fmt: skip
        if floor == 0:
            fixed_masks[camera] = masks

    moving = ((1 << _NUM_PARTS) - (1 << _UPPER)) * (1 + (1 << _NUM_PARTS))
    for n in prange(len(appearance)):
        starts, ends, radii = np.empty((_NUM_PARTS, 3)), np.empty((_NUM_PARTS, 3)), np.empty(_NUM_PARTS)
        planes, colors = np.empty((8, 4)), np.empty((_NUM_PARTS + 1, 3))
        color, shape_index, size, camera, floor = appearance[n]
        shape = _pose(
            _SIZE_TABLE[size], _SHAPE_TABLE[shape_index], angles[n, 0], angles[n, 1], starts, ends, radii, planes
        )
        colors[: len(_PART_COLORS)] = _PART_COLORS
        colors[_OBJECT] = _OBJECT_COLORS[color]
        colors[_NUM_PARTS] = _FLOOR_COLORS[floor]
        masks = fixed_masks[camera].copy()
        _mark(masks, (_UPPER, _NUM_PARTS), _CAMERA_FRAMES[camera], starts, ends, radii)
        for row in range(IMAGE_SIZE):
            for column in range(IMAGE_SIZE):
                if masks[row, column] & moving:
                    _pixel(
                        images[n, row, column], row, column, _CAMERA_FRAMES[camera], masks[row, column],
                        colors, starts, ends, radii, shape, planes,
                    )  # fmt: skip
                else:
                    images[n, row, column] = fixed[camera, floor, row, column]


def render(appearance: NDArray[np.int64], axes: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Render scenes; the same arguments give the same bytes for any number of threads or images.

    Args:
        appearance: int64 [N, 5], positions in COLORS, SHAPES, SIZES, CAMERAS and BACKGROUNDS.
        axes: float64 [N, 2] in [0, 1], the arm's positions within HORIZONTAL_RANGE and VERTICAL_RANGE.

    Returns:
        uint8 [N, 64, 64, 3].

    Raises:
        ValueError: a position or an axis is out of range.
    """
    counts = [len(table) for table in (COLORS, SHAPES, SIZES, CAMERAS, BACKGROUNDS)]
    if ((appearance < 0) | (appearance >= counts)).any() or ((axes < 0.0) | (axes > 1.0)).any():
        raise ValueError(f"appearance or axes are out of range; they must be in [0, {counts}) and in [0, 1]")
    low, high = np.transpose([HORIZONTAL_RANGE, VERTICAL_RANGE])
    images = np.empty((len(appearance), IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    _render(appearance.astype(np.int64), np.radians(low + (high - low) * axes), images)
    return images
