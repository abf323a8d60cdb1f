"""The float32 screen of boosting.py on the CPU, and the threads of the fit.

The screen is nearly all of the work on a wide representation. It is written as vector instructions for numba, 16 trees
side by side.
"""

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from disentanglement_challenge.compiled import compiled

LANES = 16  # trees side by side in a screen: one AVX-512 register of float32, so a residual row is one cache line
EMPTY_SIDE = np.float32(0.01)  # added to node sizes, so that a cut with an empty side does not divide by zero
# A task of about a millisecond at 10,000 points: far longer than handing it to a thread, and there are many tasks.
FEATURES_PER_TASK = 32


def run_in_pieces(pool: Executor, count: int, grain: int, kernel: Callable[..., None], *arrays: np.ndarray) -> None:
    """Run kernel(start, stop, *arrays) over range(count) in pieces of size `grain`, on a pool of threads.

    Idle threads of a pool sleep. OpenMP's (numba's parallel=True) spin at each of a fit's thousand barriers; with other
    processes on the cores, this made small fits ten times slower (measured).
    """
    futures = [pool.submit(kernel, start, min(start + grain, count), *arrays) for start in range(0, count, grain)]
    for future in futures:
        future.result()


_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_CODES = ir.VectorType(ir.IntType(8), LANES)
_INDEX = ir.IntType(64)


def _lanes(value: float) -> Any:
    return ir.Constant(_VECTOR, [value] * LANES)


def _type_walk(
    typing_context: Any, num_nodes: Any, order: Any, residuals: Any, nodes: Any, sizes: Any, bounds: Any
) -> Any:
    """Walk one sorted feature for 16 trees with num_nodes (a literal) nodes each.

    For residuals centred in their node, the decrease of a cut after c of N points with the prefix sum S is
    N S^2 / (c (N - c)); bounds[j] becomes the largest S^2 / (c (N - c)) of node j, over all cuts including those
    between equal values. The running maximum is kept as a numerator and a denominator, so that there is only one
    division, at the end. It is written as vector instructions, as numba's own vectoriser leaves the loop scalar (100
    times slower, measured).
    """
    if not isinstance(num_nodes, types.IntegerLiteral):
        return None
    count = num_nodes.literal_value

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        arrays = [
            context.make_array(ty)(context, builder, value)
            for ty, value in zip(signature.args[1:], args[1:], strict=True)
        ]
        order_at = arrays[0].data
        length = builder.extract_value(arrays[0].shape, 0)
        residual_at = builder.bitcast(arrays[1].data, _VECTOR.as_pointer())
        nodes_at = builder.bitcast(arrays[2].data, _CODES.as_pointer())
        sizes_at = builder.bitcast(arrays[3].data, _VECTOR.as_pointer())
        bounds_at = builder.bitcast(arrays[4].data, _VECTOR.as_pointer())
        size = [builder.load(builder.gep(sizes_at, [_INDEX(j)]), align=4) for j in range(count)]
        state = [
            [cgutils.alloca_once_value(builder, _lanes(value)) for value in (0.0, 0.0, 0.0, 1.0)] for _ in range(count)
        ]
        with cgutils.for_range(builder, length) as loop:
            point = builder.zext(builder.load(builder.gep(order_at, [loop.index])), _INDEX)
            residual = builder.load(builder.gep(residual_at, [point]), align=4)
            node = builder.load(builder.gep(nodes_at, [point]), align=1)
            for j, (sum_at, left_at, best_num_at, best_den_at) in enumerate(state):
                here = builder.icmp_unsigned("==", node, ir.Constant(_CODES, [j] * LANES))
                old_sum, old_left = builder.load(sum_at), builder.load(left_at)
                total = builder.select(here, builder.fadd(old_sum, residual), old_sum)
                left = builder.select(here, builder.fadd(old_left, _lanes(1.0)), old_left)
                builder.store(total, sum_at)
                builder.store(left, left_at)
                num = builder.fmul(total, total)
                den = builder.fmul(left, builder.fsub(size[j], left))
                best_num, best_den = builder.load(best_num_at), builder.load(best_den_at)
                better = builder.fcmp_ordered(">", builder.fmul(num, best_den), builder.fmul(best_num, den))
                builder.store(builder.select(better, num, best_num), best_num_at)
                builder.store(builder.select(better, den, best_den), best_den_at)
        for j, (_, _, best_num_at, best_den_at) in enumerate(state):
            ratio = builder.fdiv(builder.load(best_num_at), builder.load(best_den_at))
            builder.store(ratio, builder.gep(bounds_at, [_INDEX(j)]), align=4)
        return context.get_dummy_value()

    return types.void(num_nodes, order, residuals, nodes, sizes, bounds), generate


_walk: Any = intrinsic(prefer_literal=True)(_type_walk)


@compiled(nogil=True)
def _screen_tile(
    start: int,
    stop: int,
    order: np.ndarray,
    residual_tile: np.ndarray,
    node_tile: np.ndarray,
    sizes: np.ndarray,
    bounds: np.ndarray,
) -> None:
    for f in range(start, stop):
        if len(sizes) == 1:
            _walk(1, order[f], residual_tile, node_tile, sizes, bounds[f])
        elif len(sizes) == 2:
            _walk(2, order[f], residual_tile, node_tile, sizes, bounds[f])
        else:
            _walk(4, order[f], residual_tile, node_tile, sizes, bounds[f])


def screen(
    pool: Executor, order: np.ndarray, residual_tiles: np.ndarray, node_tiles: np.ndarray, sizes: np.ndarray
) -> np.ndarray:
    """Find the best cut of every feature in every node of every tree, in float32.

    Args:
        pool: the threads to run on.
        order: uint16 or uint32 [D, n], the points in ascending order of each feature.
        residual_tiles: float32 [T, n, 16], residuals centred and scaled to unit variance within their node.
        node_tiles: uint8 [T, n, 16], the node of each point in each tree.
        sizes: float32 [T, J, 16], points per node plus `EMPTY_SIDE`; J is 1, 2 or 4.

    Returns:
        The largest S^2 / (c (N - c)) over the cuts of a feature (see `_type_walk`), float32 [T, D, J, 16].
    """
    bounds = np.empty((len(sizes), len(order), sizes.shape[1], LANES), np.float32)
    # Tile by tile: one tile at 10,000 points has 0.8 MB, which stay in a core's L2 cache for all features.
    for tile in zip(residual_tiles, node_tiles, sizes, bounds, strict=True):
        run_in_pieces(pool, len(order), FEATURES_PER_TASK, _screen_tile, order, *tile)
    return bounds
