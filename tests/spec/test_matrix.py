from __future__ import annotations

import json
from typing import Any

import pytest

from driverun.errors import SpecError
from driverun.spec.identity import run_id_of, spec_from_json, spec_to_json
from driverun.spec.matrix import Matrix, MatrixFaults, points, read_matrix, sweep_id_of
from driverun.spec.model import JobSpec
from driverun.spec.parser import parse_job, point_specs, refuse_overrides_of_matrix, with_overrides

CODE = "c0de" * 16


def spec(matrix: Any, **fields: Any) -> JobSpec:
    text = json.dumps({"entrypoint": "train.py", "matrix": matrix, **fields})
    return parse_job(text.encode(), file="job.yaml", default_name="digits")


def made(written: Any) -> list[dict[str, Any]]:
    matrix = read_matrix(written)
    assert isinstance(matrix, Matrix)
    return [dict(point) for point in points(matrix)]


def test_points_come_in_a_stable_order_the_last_parameter_fastest() -> None:
    assert made({"b": [1, 2], "a": ["x", [0, {"c": None}]]}) == [
        {"b": 1, "a": "x"},
        {"b": 1, "a": [0, {"c": None}]},
        {"b": 2, "a": "x"},
        {"b": 2, "a": [0, {"c": None}]},
    ]


def test_include_means_what_it_means_in_the_workflows_of_github() -> None:
    """The example of their documentation."""
    assert made(
        {
            "fruit": ["apple", "pear"],
            "animal": ["cat", "dog"],
            "include": [
                {"color": "green"},
                {"color": "pink", "animal": "cat"},
                {"fruit": "apple", "shape": "circle"},
                {"fruit": "banana"},
                {"fruit": "banana", "animal": "cat"},
            ],
        }
    ) == [
        {"fruit": "apple", "animal": "cat", "color": "pink", "shape": "circle"},
        {"fruit": "apple", "animal": "dog", "color": "green", "shape": "circle"},
        {"fruit": "pear", "animal": "cat", "color": "pink"},
        {"fruit": "pear", "animal": "dog", "color": "green"},
        {"fruit": "banana"},
        {"fruit": "banana", "animal": "cat"},
    ]


def test_exclude_takes_away_what_has_all_of_its_values_and_comes_before_include() -> None:
    matrix = {
        "a": [1, 2],
        "b": [True, 1],
        "exclude": [{"a": 1.0, "b": 1}, {"a": 2}],
        "include": [{"a": 2, "b": 5}],
    }
    assert made(matrix) == [{"a": 1, "b": True}, {"a": 2, "b": 5}]
    assert made({"include": [{"a": 1}, {"a": 2}]}) == [{"a": 1}, {"a": 2}]


def test_a_point_that_comes_twice_is_one() -> None:
    assert made({"a": [1, 1, 1.0], "include": [{"b": 1, "a": 7}, {"a": 7, "b": 1}]}) == [
        {"a": 1},
        {"a": 1.0},  # another value to the code, and in the run's id
        {"a": 7, "b": 1},
    ]


@pytest.mark.parametrize(
    ("written", "place", "words"),
    [
        (5, (), "expected a mapping"),
        ({}, (), "the matrix is empty"),
        ({"max_parallel": 2}, (), "the matrix is empty"),
        ({"a": 0.1}, ("a",), "a: [0.1]"),
        ({"a": []}, ("a",), "no run at all"),
        ({"a": [float("inf")]}, ("a",), "JSON cannot say"),
        ({"a": [1], "include": [1, 2]}, ("include", 0), "a param of a matrix cannot be called include"),
        ({"a": [1], "exclude": ["x"]}, ("exclude", 0), "a param of a matrix cannot be called exclude"),
        ({"a": [1], "exclude": [{}]}, ("exclude", 0), "empty"),
        ({"a": [1], "include": 5}, ("include",), "expected a list of points to include"),
        ({"a": [1], "include": [{"b..c": 1}]}, ("include", 0), "'b..c' cannot be the name of a param"),
        ({"a": [1], "exclude": [{"b": 1}]}, ("exclude", 0, "b"), "has no parameter b; it has a"),
        ({"a": [1], "max_parallel": [1, 2]}, ("max_parallel",), "cannot be called max_parallel"),
        ({"a": [1], "max_parallel": 0}, ("max_parallel",), "at least 1"),
        ({"a": list(range(1001))}, (), "1,001 points"),
    ],
)
def test_what_is_no_matrix_says_where_and_what_to_write(
    written: Any, place: tuple[str | int, ...], words: str
) -> None:
    with pytest.raises(MatrixFaults) as caught:
        read_matrix(written)
    assert [(at, words in message) for at, message in caught.value.found][:1] == [(place, True)]


def test_a_matrix_of_a_million_points_is_counted_and_not_built() -> None:
    text = "entrypoint: train.py\nseed: -1\nmatrix:\n" + "".join(
        f"  p{n}: {list(range(10))}\n" for n in range(6)
    )
    with pytest.raises(SpecError) as caught:
        parse_job(text.encode(), file="job.yaml", default_name="digits")
    seed, matrix = caught.value.faults
    assert (seed.field, matrix.field, matrix.line) == ("seed", "matrix", 3)
    assert "1,000,000 points (10 * 10 * 10 * 10 * 10 * 10, before exclude); at most 1,000" in matrix.message


def test_every_fault_of_a_matrix_has_its_line() -> None:
    text = b"entrypoint: train.py\nmatrix:\n  a: 1\n  b: []\n  exclude:\n    - {c: 1}\n"
    with pytest.raises(SpecError) as caught:
        parse_job(text, file="job.yaml", default_name="digits")
    assert [(fault.field, fault.line) for fault in caught.value.faults] == [
        ("matrix.a", 3),
        ("matrix.b", 4),
        ("matrix.exclude[0].c", 6),
    ]


@pytest.mark.parametrize(
    ("params", "matrix", "words"),
    [
        ("{}", "{a: [1], a.b: [2]}", "a is no mapping"),
        ("{a: 3}", "{a.b: [2]}", "a is no mapping"),
        ("{}", "{a: [1, 2], include: [{c: 1}, {c.d: 2}]}", "c is no mapping"),
        ("{}", "{a: [1, 2], exclude: [{a: 1}, {a: 2}]}", "takes away every point"),
    ],
)
def test_points_that_cannot_be_are_a_fault_of_the_job_file(params: str, matrix: str, words: str) -> None:
    text = f"entrypoint: train.py\nparams: {params}\nmatrix: {matrix}\n"
    with pytest.raises(SpecError) as caught:
        parse_job(text.encode(), file="job.yaml", default_name="digits")
    [fault] = caught.value.faults
    assert (fault.file, fault.line, fault.field) == ("job.yaml", 3, "matrix")
    assert words in fault.message


def test_a_point_is_the_very_run_that_an_override_makes() -> None:
    job = spec({"lr": [0.1, 0.01], "opt.name": ["sgd"]}, params={"lr": 1, "opt": {"momentum": 0.9}})
    plain = job.model_copy(update={"matrix": None})
    for point, of_point in point_specs(job):
        overridden = with_overrides(plain, point)
        assert of_point == overridden
        assert run_id_of(of_point, code_sha256=CODE) == run_id_of(overridden, code_sha256=CODE)
    assert [dict(of_point.params) for _, of_point in point_specs(job)] == [
        {"lr": 0.1, "opt": {"momentum": 0.9, "name": "sgd"}},
        {"lr": 0.01, "opt": {"momentum": 0.9, "name": "sgd"}},
    ]
    assert point_specs(plain) == (({}, plain),)


def test_a_placeholder_may_name_what_every_point_sets() -> None:
    entrypoint = ["train.py", "{lr}"]
    assert len(point_specs(spec({"lr": [1, 2]}, entrypoint=entrypoint))) == 2
    with pytest.raises(SpecError, match="names no param"):
        spec({"a": [1], "include": [{"a": 2, "lr": 1}]}, entrypoint=entrypoint)


@pytest.mark.parametrize("name", ["lr", "lr.x", "opt", "opt.name"])
def test_a_param_of_the_matrix_cannot_be_overridden(name: str) -> None:
    job = spec({"lr": [1], "opt.name": ["sgd"]}, params={"epochs": 1})
    refuse_overrides_of_matrix(job, {"epochs": 5, "opt.momentum": 0})
    with pytest.raises(SpecError, match="is set by the job's matrix"):
        refuse_overrides_of_matrix(job, {name: 1})


def test_a_matrix_survives_the_way_through_json() -> None:
    job = spec({"a": [1, {"b": [None]}], "include": [{"c": 1}], "exclude": [{"a": 1}], "max_parallel": 2})
    assert spec_from_json(json.loads(json.dumps(spec_to_json(job)))) == job


def test_a_sweep_is_the_runs_of_its_points_in_any_order() -> None:
    assert sweep_id_of("digits", ["b", "a", "b"]) == sweep_id_of("digits", ["a", "b"])
    assert sweep_id_of("digits", ["a"]) != sweep_id_of("digits", ["a", "b"])
    assert sweep_id_of("digits", ["a"]).startswith("digits@")
