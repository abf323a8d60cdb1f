"""The float32 screen of boosting.py on torch tensors, for a GPU; the exact walk that decides stays on the CPU.

The screen is nearly all of the work on a wide representation, and bounds are all it returns, so a GPU changes the
time and not the model. A walk along a sorted feature becomes a cumulative sum along it, for many features and all
trees at once.
"""

import numpy as np
import torch

from disentanglement_challenge.metrics.boosting_screen import LANES, Screen

# Features of a step are as many as keep its largest temporary, float32 [features, n, lanes], near this many elements:
# half a GB each, of which about eight are alive at a time.
CHUNK_ELEMENTS = 2**27


def torch_screen(device: torch.device | str, chunk_elements: int = CHUNK_ELEMENTS) -> Screen:
    """A screen for `boosting.fit_boosting` that runs on a torch device.

    Args:
        device: where to compute.
        chunk_elements: float32 elements of the largest temporary.

    Returns:
        A function as `boosting_screen.numba_screen` returns. It keeps the last features' order on the device.
    """
    device = torch.device(device)
    held: dict[str, tuple[np.ndarray, torch.Tensor]] = {}

    def screen(order: np.ndarray, residual_tiles: np.ndarray, node_tiles: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        if "order" not in held or held["order"][0] is not order:
            held["order"] = (order, torch.from_numpy(order.astype(np.int32)).to(device))
        points = held["order"][1]
        num_features, num_points = order.shape
        num_nodes = sizes.shape[1]
        step = max(1, chunk_elements // (num_points * LANES))
        bounds = torch.empty((len(sizes), num_features, num_nodes, LANES), device=device)
        for t, (residuals, nodes) in enumerate(zip(residual_tiles, node_tiles, strict=True)):
            residuals_there, nodes_there = (torch.from_numpy(a).to(device) for a in (residuals, nodes))
            sizes_there = torch.from_numpy(sizes[t]).to(device)
            for start in range(0, num_features, step):
                chunk = points[start : start + step]
                residual = residuals_there[chunk]  # [features, n, 16]
                node = nodes_there[chunk]
                for j in range(num_nodes):
                    here = node == j
                    prefix = torch.where(here, residual, 0).cumsum(dim=1)
                    left = here.to(torch.float32).cumsum(dim=1)
                    denominator = left * (sizes_there[j] - left)
                    # Before the first point of the node both are zero; no lane of a full tile has a negative
                    # denominator.
                    ratio = prefix.square_().div_(denominator.clamp_(min=torch.finfo(torch.float32).tiny))
                    bounds[t, start : start + step, j] = ratio.amax(dim=1)
        return bounds.cpu().numpy()

    return screen
