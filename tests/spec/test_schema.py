"""The published schema and the parser judge alike, so that an editor can be believed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from driverun.errors import SpecError
from driverun.spec.parser import parse_job
from driverun.spec.reader import read_yaml
from driverun.spec.schema import job_schema

VALIDATOR = jsonschema.Draft202012Validator(job_schema())
GUIDE = Path(__file__).parents[2] / "docs" / "job-file.md"

SOUND = [
    "{}",
    "name: a-B_9",
    "params: {a: [1, {b: null}], c: 1e-3, 'yes': x}",
    "data: []",
    "data: [{source: data/x.npz}]",
    "data: [{source: ./a b/größe/, access: mount, target: x/y, optional: false}]",
    "data: [{source: x, target: null}]",
    "data: [{source: a.b/..c/d..}]",
    "data: [{source: 'https://a.org/b'}]",
    "data: [{source: 'gs://bucket/a b.csv'}]",
    f"data: [{{source: 1{'a' * 32}}}]",
    f"data: [{{source: 'https://drive.google.com/file/d/1{'a' * 32}/view?usp=sharing'}}]",
    f"data: [{{source: 'https://drive.google.com/uc?export=download&id=1{'a' * 32}'}}]",
    "data: [{source: x.zip, unpack: false}]",
    "data: [{source: x.zip, unpack: null}]",
    "outputs: {}",
    "outputs: {include: [], exclude: ['*.tmp', 'a/**/b']}",
    "outputs: {max_checkpoint_size: 0}",
    "outputs: {max_checkpoint_size: 500 kB}",
    "outputs: {max_checkpoint_size: 1.5gib}",
    "seed: 4294967295",
    "deterministic: null",
    "deterministic: false",
    "accelerator: gpu",
    *(
        f"checkpoint: {{every: {every}}}"
        for every in ("auto", "30s", "1h30m", "0.5s", "500 steps", "1 epoch", "10ms")
    ),
    "checkpoint: {keep: 1, monitor: val_loss, mode: max}",
    "retry: {max_errors: 3}",
    "schedule: null",
    "schedule: {cron: '*/5 0-6,22 L * MON-FRI', timezone: Europe/Berlin, catch_up: all, until: 2027-12-31}",
    "schedule: {cron: '@daily', until: 2027-12-31T18:00}",
    "schedule: {cron: '@daily', until: '2027-12-31 18:00:00+01:00'}",
    "retry: {backoff: 1m30s}",
    "retry: {backoff: 0s}",
    "timeout: 6h",
    "init_from: {run: mnist, what: weights}",
    "init_from: {run: a-0123456789ab, what: state}",
    "init_from: null",
    "timeout: null",
    "stop_when_idle: 0.5h",
    "backend: tensorflow",
    "requirements: []",
    "requirements: [einops>=0.8, 'a_b[c]~=1.0; python_version<\"3.13\"', 'x @ https://a.org/x.whl']",
    "requirements: [' y @ git+https://a.org/y@main']",
    "matrix: {a: [1, {b: [null]}], c.d: ['x'], include: [{e: 1}], exclude: [{a: 1}], max_parallel: 3}",
    "matrix: {include: [{a: 1}]}",
    "matrix: null",
    "after: []",
    "after: [a-B_9, b, b]",
    "min_memory: 1.5gib",
    "min_memory: 0",
    "min_memory: null",
    "secrets: [HF_TOKEN, {name: a-b.c, as: W}, {name: x, as: null}]",
    "priority: -5",
    "notes: any text at all",
]

FAULTY = [
    "name: 5",
    "name: a b",
    "name: _a",
    f"name: {'a' * 64}",
    "params: []",
    "data: {source: x}",
    "data: [x]",
    "data: [{}]",
    *(
        f"data: [{{source: {source}}}]"
        for source in (
            "/x",
            "../x",
            "a/../b",
            "a\\b",
            "~/x",
            "C:/x",
            "''",
            ".",
            "'./'",
            "'https://'",
            "'gdrive:x'",
            "'gdrive://abc'",
            "'file:///x'",
            "'https://a:b@c/d'",
            "'https://a/b '",
            '"https://a/b\\tc"',
            "'https://drive.google.com/drive/my-drive'",
            f"'https://docs.google.com/document/d/1{'a' * 32}/edit'",
        )
    ),
    f"data: [{{source: {'a/' * 600}}}]",
    f"data: [{{source: 'https://a/{'b' * 1100}'}}]",
    "data: [{source: x.zip, unpack: 1}]",
    "data: [{source: x, target: ../y}]",
    "data: [{source: x, target: ''}]",
    "data: [{source: x, access: copy}]",
    "data: [{source: x, optional: 1}]",
    "data: [{source: x, colour: 1}]",
    "outputs: []",
    "outputs: {include: '*'}",
    "outputs: {include: ['']}",
    "outputs: {exclude: [/x]}",
    "outputs: {max_checkpoint_size: -1}",
    "outputs: {max_checkpoint_size: 1.5B}",
    "outputs: {max_checkpoint_size: true}",
    "outputs: {max_checkpoint_size_bytes: 5}",
    "seed: -1",
    "seed: 4294967296",
    "seed: '7'",
    "seed: 7.5",
    "seed: true",
    "seed: null",
    "deterministic: 1",
    "accelerator: cuda",
    *(
        f"checkpoint: {{every: {every}}}"
        for every in (
            "30",
            "1:30",
            "0s",
            "0 steps",
            "1.5 epochs",
            "5min",
            "''",
            "null",
            "{kind: auto}",
            "'30s '",
        )
    ),
    "checkpoint: {keep: 0}",
    "checkpoint: {monitor: ''}",
    "checkpoint: {mode: best}",
    "checkpoint: null",
    "retry: 3",
    "retry: {max_errors: 0}",
    "retry: {backoff: 30}",
    "timeout: 6",
    "init_from: mnist",
    "init_from: {run: mnist}",
    "init_from: {what: state}",
    "init_from: {run: '', what: state}",
    "init_from: {run: a/b, what: state}",
    "init_from: {run: a, what: everything}",
    "timeout: 0s",
    "timeout: true",
    "stop_when_idle: 0.0h",
    "stop_when_idle: soon",
    "backend: jax",
    "backend: 5",
    "requirements: numpy",
    "requirements: [-r x.txt]",
    "requirements: [./x]",
    "requirements: ['']",
    "requirements: [5]",
    "secrets: HF_TOKEN",
    "secrets: [5]",
    "secrets: [a b]",
    "secrets: [{as: X}]",
    "secrets: [{name: x, as: a-b}]",
    "priority: high",
    "notes: 5",
    *(
        f"matrix: {matrix}"
        for matrix in (
            "{}",
            "[]",
            "{a: 1}",
            "{a: []}",
            "{a: [1], include: 5}",
            "{a: [1], include: [5]}",
            "{a: [1], exclude: [{}]}",
            "{a: [1], max_parallel: 0}",
            "{a: [1], max_parallel: [1, 2]}",
        )
    ),
    "after: prepare",
    "after: [a b]",
    "after: [5]",
    "min_memory: -1",
    "min_memory: lots",
    "schedule: '@daily'",
    "schedule: {}",
    "schedule: {cron: '* * * *'}",
    "schedule: {cron: '* * * * * *'}",
    "schedule: {cron: 5}",
    "schedule: {cron: '@daily', catch_up: some}",
    "schedule: {cron: '@daily', until: soon}",
    "schedule: {cron: '@daily', every: 5m}",
    "epochs: 5",
]

ENTRYPOINTS = {
    "train.py": True,
    "./a b/train.py": True,
    "pkg.mod:Class.method": True,
    "[train.py]": True,
    "[python, -m, pkg]": True,
    "[make, '{x}']": None,
    "train": False,
    "''": False,
    "python train.py": False,
    "train.py --x": False,
    "train.py:main": False,
    "run.sh": False,
    "../train.py": False,
    "/train.py": False,
    "'{x}.py'": False,
    ".py": False,
    "a/.py": False,
    "a.ipynb": True,
    "./a b/c.ipynb": True,
    "[a.ipynb, '{x}']": None,
    "/a.ipynb": False,
    "'{x}.ipynb'": False,
    ".ipynb": False,
    "[]": False,
    "['']": False,
    "[train.py, 5]": False,
    "{kind: script, value: train.py}": False,
    "null": False,
    "5": False,
}


def schema_accepts(text: str) -> bool:
    document = read_yaml(text.encode(), file="job.yaml")
    assert not document.faults
    return bool(VALIDATOR.is_valid(document.value))


def parser_accepts(text: str) -> bool:
    try:
        parse_job(text.encode(), file="job.yaml", default_name="job")
    except SpecError:
        return False
    return True


CASES = [
    (f"entrypoint: train.py\n{text}" if text != "{}" else "entrypoint: train.py", True) for text in SOUND
]
CASES += [(f"entrypoint: train.py\n{text}", False) for text in FAULTY]
CASES += [(f"entrypoint: {text}", sound) for text, sound in ENTRYPOINTS.items() if sound is not None]
CASES += [("seed: 1", False), ("{}", False), ("[]", False), ("text", False)]


@pytest.mark.parametrize(("text", "is_sound"), CASES)
def test_schema_and_parser_judge_alike(text: str, is_sound: bool) -> None:
    assert (schema_accepts(text), parser_accepts(text)) == (is_sound, is_sound)


@pytest.mark.parametrize(
    "text",
    [
        "entrypoint: [make, '{x}']",  # a placeholder and the params
        "entrypoint: train.py\ndata: [{source: a/x}, {source: b/x}]",  # two sources
        "entrypoint: train.py\ndata: [{source: x, unpack: true}]",  # the source's name
        "entrypoint: train.py\ndata: [{source: 'https://a/'}]",  # that there is no target
        "entrypoint: [python, ../train.py]",  # the place of a script in a list depends on what is before it
        f"entrypoint: train.py\ndata: [{{source: {'a' * 256}}}]",  # bytes of one part
        f"entrypoint: train.py\nmatrix: {{a: {list(range(1001))}}}",  # how many points there are
        "entrypoint: train.py\nmatrix: {max_parallel: 2}",  # that there are none
        "entrypoint: train.py\nmatrix: {a: [1], exclude: [{b: 1}]}",  # two fields of it
        "entrypoint: train.py\nafter: [x]\ndata: [{source: x}]",  # where both land
        "entrypoint: train.py\nschedule: {cron: 0 0 30 2 *}",  # a calendar
        "entrypoint: train.py\nschedule: {cron: '@dayly'}",
        "entrypoint: train.py\nschedule: {cron: '@daily', timezone: Mars/Phobos}",
        "entrypoint: train.py\nseed: 7.0",  # to JSON Schema a whole number, however it is written
    ],
)
def test_what_takes_a_second_look_the_parser_alone_refuses(text: str) -> None:
    assert schema_accepts(text)
    assert not parser_accepts(text)


def test_the_schema_is_a_schema_and_plain_json() -> None:
    schema = json.loads(json.dumps(job_schema(), allow_nan=False))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["entrypoint"]


def objects_of(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "job", schema
    yield from ((name, part) for name, part in schema["$defs"].items() if "properties" in part)


def test_every_field_has_a_title_a_description_and_examples_that_are_sound() -> None:
    schema: dict[str, Any] = dict(job_schema())
    for where, part in objects_of(schema):
        assert part["additionalProperties"] is False, where
        for name, field in part["properties"].items():
            assert field["title"], (where, name)
            assert len(field["description"]) > 10, (where, name)
            for example in field["examples"]:
                resolved = {**field, "$defs": schema["$defs"]}
                jsonschema.Draft202012Validator(resolved).validate(example)


def test_every_pattern_is_one_that_editors_understand() -> None:
    patterns = re.findall(r'"pattern": "((?:[^"\\]|\\.)*)"', json.dumps(job_schema()))
    assert len(patterns) > 5
    for pattern in patterns:
        assert not re.search(r"\(\?[^:=!]|\\[AZz]|\\d|\\w", pattern), (
            pattern
        )  # Python's own, or not the same elsewhere


def test_the_guide_shows_every_field_and_only_sound_examples() -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    schema: dict[str, Any] = dict(job_schema())
    for where, part in objects_of(schema):
        for name in part["properties"]:
            assert f"`{name}`" in guide, (where, name)
    blocks = re.findall(r"```yaml\n(.*?)```", guide, flags=re.DOTALL)
    assert len(blocks) > 5
    for block in blocks:
        text = block if "entrypoint:" in block else f"entrypoint: train.py\n{block}"
        assert parser_accepts(text), block
        assert schema_accepts(text), block
