"""Linear regression by gradient descent, checked against the closed form.

The model is y = Σ wᵢxᵢ + b, the loss L is the mean of the squared residuals. Each epoch is one batch that
holds every sample, and plain SGD has neither momentum nor decay, so what Keras carries out is exactly

    wᵢ ← wᵢ − α ∂L/∂wᵢ        b ← b − α ∂L/∂b

L has one minimum, and linear algebra gives it directly: the script fails if descent ends anywhere else.
"""

import json
from pathlib import Path

import keras
import numpy as np

import driverun

TOLERANCE = 1e-4  # float32 descent against a float64 solution


def make_samples(samples, features, noise):
    """Return x (samples, features) and y (samples,), drawn around a known plane; the same at every call."""
    draw = np.random.default_rng(20240229)
    weights, bias = draw.uniform(-3.0, 3.0, size=features), draw.uniform(-1.0, 1.0)
    x = draw.normal(size=(samples, features))
    return x, x @ weights + bias + noise * draw.normal(size=samples)


def least_squares(x, y):
    """Return the weights and the bias with the least squared residuals, without any descent."""
    with_ones = np.column_stack([x, np.ones(len(x))])
    solution, *_ = np.linalg.lstsq(with_ones, y, rcond=None)
    return solution[:-1], solution[-1]


def gradient_descent(x, y, learning_rate, epochs):
    """Return the weights and the bias that Keras arrives at by the two update rules above."""
    model = keras.Sequential([keras.Input(shape=(x.shape[1],)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(learning_rate=learning_rate), loss="mean_squared_error")
    model.fit(x, y, batch_size=len(x), shuffle=False, epochs=epochs, verbose=2)
    kernel, bias = model.layers[0].get_weights()
    return kernel[:, 0], bias[0]


def main():
    params = driverun.current_run().params
    x, y = make_samples(params["samples"], params["features"], params["noise"])
    weights, bias = gradient_descent(x, y, params["learning_rate"], params["epochs"])
    exact_weights, exact_bias = least_squares(x, y)

    difference = float(max(np.abs(weights - exact_weights).max(), abs(bias - exact_bias)))
    fit = {
        "weights": [float(weight) for weight in weights],
        "bias": float(bias),
        "least_squares": {"weights": exact_weights.tolist(), "bias": float(exact_bias)},
        "largest_difference": difference,
    }
    Path("fit.json").write_text(json.dumps(fit, indent=2) + "\n")
    print(f"largest difference from least squares: {difference:.2e}")
    assert difference < TOLERANCE, f"descent ended {difference:.2e} from the least squares: train for longer?"


if __name__ == "__main__":
    main()
