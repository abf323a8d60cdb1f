"""Gradients without automatic differentiation."""

import numpy as np


def numerical_gradients(function, arrays, step=1e-6):
    """Central differences of function(*arrays), a float, with respect to every entry of every float64 array."""
    gradients = []
    for index, array in enumerate(arrays):
        gradient = np.zeros_like(array)
        for entry in np.ndindex(*array.shape):
            values = []
            for sign in (1, -1):
                moved = [other.copy() for other in arrays]
                moved[index][entry] += sign * step
                values.append(function(*moved))
            gradient[entry] = (values[0] - values[1]) / (2 * step)
        gradients.append(gradient)
    return gradients
