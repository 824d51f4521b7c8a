"""The jobs that people copy as a start."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import keras
import numpy as np
import pytest

from driverun.spec.parser import parse_job

REPOSITORY = Path(__file__).parent.parent.parent
JOBS = sorted(file.parent for file in (REPOSITORY / "jobs").glob("*/job.yaml"))


@pytest.fixture(scope="module")
def linear_regression() -> ModuleType:
    path = REPOSITORY / "jobs" / "linear_regression" / "train.py"
    spec = importlib.util.spec_from_file_location("jobs_linear_regression_train", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_four_jobs_are_there() -> None:
    assert [folder.name for folder in JOBS] == ["digits", "linear_regression", "mnist", "sweep"]


@pytest.mark.parametrize("folder", JOBS, ids=lambda folder: folder.name)
def test_a_job_file_parses_and_is_named_like_its_folder(folder: Path) -> None:
    file = folder / "job.yaml"
    spec = parse_job(file.read_bytes(), file=str(file), default_name="unnamed")
    assert spec.name == folder.name
    assert spec.seed == 7
    assert (folder / "README.md").is_file()


@pytest.mark.parametrize("folder", JOBS, ids=lambda folder: folder.name)
def test_a_script_compiles_and_reads_no_parameter_that_its_job_file_lacks(folder: Path) -> None:
    source = (folder / "train.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    compile(tree, str(folder / "train.py"), "exec")
    job_file = folder / "job.yaml"
    spec = parse_job(job_file.read_bytes(), file=str(job_file), default_name="unnamed")
    read = {
        node.slice.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and ast.unparse(node.value) in {"params", "run.params"}
        and isinstance(node.slice, ast.Constant)
    }
    assert read == set(spec.params) | set(spec.matrix.parameters if spec.matrix else ())


def test_keras_takes_the_steps_of_the_update_rule(linear_regression: ModuleType) -> None:
    x, y = linear_regression.make_samples(samples=50, features=3, noise=0.1)
    learning_rate = 0.05
    keras.utils.set_random_seed(1)
    w1, b1 = linear_regression.gradient_descent(x, y, learning_rate, epochs=1)
    keras.utils.set_random_seed(1)
    w2, b2 = linear_regression.gradient_descent(x, y, learning_rate, epochs=2)

    residuals = x @ w1 + b1 - y
    np.testing.assert_allclose(w2, w1 - learning_rate * 2 * x.T @ residuals / len(x), atol=1e-5)
    np.testing.assert_allclose(b2, b1 - learning_rate * 2 * residuals.mean(), atol=1e-5)


def test_least_squares_finds_a_plane_without_noise(linear_regression: ModuleType) -> None:
    x, _ = linear_regression.make_samples(samples=50, features=3, noise=0.0)
    weights, bias = linear_regression.least_squares(x, x @ np.array([1.0, -2.0, 0.5]) + 0.25)
    np.testing.assert_allclose([*weights, bias], [1.0, -2.0, 0.5, 0.25], atol=1e-12)


def test_samples_are_the_same_at_every_call(linear_regression: ModuleType) -> None:
    first, again = (linear_regression.make_samples(samples=9, features=2, noise=0.5) for _ in range(2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])


def test_linear_regression_runs_bare_and_agrees_with_least_squares(tmp_path: Path) -> None:
    folder = tmp_path / "copied"
    shutil.copytree(REPOSITORY / "jobs" / "linear_regression", folder)
    done = subprocess.run(
        [sys.executable, "-W", "error", "train.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "2"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "largest difference from least squares" in done.stdout
    fit = json.loads((folder / "fit.json").read_text(encoding="utf-8"))
    assert fit["largest_difference"] < 1e-4
    np.testing.assert_allclose(fit["weights"], fit["least_squares"]["weights"], atol=1e-4)
