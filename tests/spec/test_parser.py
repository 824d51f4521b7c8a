"""A job file becomes a spec, or every one of its faults is reported with its place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from driverun.errors import SpecError
from driverun.spec.identity import spec_to_json
from driverun.spec.model import (
    Accelerator,
    Access,
    Cadence,
    CadenceKind,
    DataSource,
    EntrypointKind,
    JobSpec,
)
from driverun.spec.parser import check_code, parse_job, parse_override, with_overrides

JOBS_DIR = Path(__file__).parents[2] / "jobs"


def parse(text: str, *, default_name: str = "job") -> JobSpec:
    return parse_job(text.encode(), file="job.yaml", default_name=default_name)


def faults_of(text: str, *, default_name: str = "job") -> list[tuple[int | None, str, str]]:
    with pytest.raises(SpecError) as caught:
        parse(text, default_name=default_name)
    return [(fault.line, fault.field, fault.message) for fault in caught.value.faults]


def test_the_smallest_job_has_every_default() -> None:
    spec = parse("entrypoint: train.py", default_name="mnist")
    assert spec.name == "mnist"
    assert spec.entrypoint.kind is EntrypointKind.SCRIPT
    assert spec_to_json(spec) == {
        "name": "mnist",
        "entrypoint": "train.py",
        "params": {},
        "data": [],
        "outputs": {"include": ["**"], "exclude": [], "max_checkpoint_size": 10**9},
        "seed": 0,
        "deterministic": None,
        "accelerator": "any",
        "checkpoint": {"every": "auto", "keep": 3, "monitor": None, "mode": "auto"},
        "schedule": None,
        "retry": {"max_errors": 1, "backoff": "30s"},
        "timeout": None,
        "stop_when_idle": None,
        "backend": None,
        "requirements": [],
        "matrix": None,
        "after": [],
        "min_memory": None,
        "secrets": [],
        "init_from": None,
        "priority": 0,
        "notes": "",
    }


def test_a_full_job_is_read_field_by_field() -> None:
    spec = parse(
        "name: full\nentrypoint: [train.py, '{lr}']\nparams: {lr: 1e-3}\ndata:\n"
        "  - {source: a/b.npz, access: mount, target: data/c.npz, optional: true}\n  - {source: a/d/}\n"
        "outputs: {max_checkpoint_size: 4MiB}\nseed: 7\ndeterministic: true\naccelerator: tpu\n"
        "checkpoint: {every: 500 steps, monitor: loss, mode: min}\nretry: {max_errors: 2}\npriority: 3\n"
    )
    assert spec.params == {"lr": 0.001}
    assert spec.data == (
        DataSource(source="a/b.npz", access=Access.MOUNT, target="c.npz", optional=True),
        DataSource(source="a/d", access=Access.SYNC, target="d", optional=False),
    )
    assert spec.outputs.max_checkpoint_size_bytes == 4 * 2**20
    assert (spec.seed, spec.deterministic, spec.priority) == (7, True, 3)
    assert spec.accelerator is Accelerator.TPU
    assert spec.checkpoint.every == Cadence(kind=CadenceKind.STEPS, value=500)
    assert spec.retry.max_errors == 2


@pytest.mark.parametrize("job", sorted(JOBS_DIR.glob("*/job.yaml")), ids=lambda job: str(job.parent.name))
def test_every_shipped_job_is_sound(job: Path) -> None:
    spec = parse_job(job.read_bytes(), file=str(job), default_name=job.parent.name)
    paths = [str(path.relative_to(job.parent)) for path in job.parent.rglob("*") if path.is_file()]
    assert check_code(spec, file=str(job), paths=paths, text=job.read_bytes()) == ()


@pytest.mark.parametrize(
    ("written", "kind", "value"),
    [
        ("auto", CadenceKind.AUTO, None),
        ("30s", CadenceKind.SECONDS, 30.0),
        ("1h30m", CadenceKind.SECONDS, 5400.0),
        ("500 steps", CadenceKind.STEPS, 500),
        ("1step", CadenceKind.STEPS, 1),
        ("1 epoch", CadenceKind.EPOCHS, 1),
        ("2 epochs", CadenceKind.EPOCHS, 2),
    ],
)
def test_a_cadence_has_a_kind(written: str, kind: CadenceKind, value: float | None) -> None:
    spec = parse(f"entrypoint: train.py\ncheckpoint: {{every: {written}}}")
    assert (spec.checkpoint.every.kind, spec.checkpoint.every.value) == (kind, value)


#: Field, what is written from line 2 on, line of the fault, words of its message.
FAULTS: list[tuple[str, str, int | None, str]] = [
    ("name", "name: my job", 2, "'my job' cannot be the name of a job: .* write my-job"),
    ("name", "name: 5", 2, "expected text, such as name: mnist; found the number 5"),
    ("name", "name: -x", 2, "write x"),
    ("name", f"name: {'x' * 64}", 2, "up to 63"),
    (
        "params",
        "params: [1]",
        2,
        "expected a mapping, such as params: {epochs: 5, batch_size: 32}; found a list",
    ),
    ("params", "params:\n  1: x", 3, "1 is not text"),
    ("params.a[0]", "params:\n  a:\n    - .inf", 4, "JSON"),
    ("params.a", "params: {a: no}", 2, 'write false, or "no" in quotes'),
    ("data", "data: {source: x}", 2, r"expected a list, such as data: \[{source: data/mnist.npz}\]"),
    ("data[0]", "data: [x]", 2, 'expected a mapping, such as {source: data/mnist.npz}; found the text "x"'),
    (
        "data[1].source",
        "data:\n  - {source: x}\n  - {optional: true}",
        4,
        "this field is required, such as source:",
    ),
    ("data[0].source", "data: [{source: ../x}]", 2, "leads out of its folder"),
    ("data[0].source", "data: [{source: /x}]", 2, "absolute"),
    ("data[0].source", "data: [{source: 'gdrive:y'}]", 2, "an address of a root"),
    ("data[0].source", "data: [{source: 'https://drive.google.com/drive'}]", 2, "Copy link"),
    ("data[0].unpack", "data: [{source: x.csv, unpack: true}]", 2, "no archive that driverun unpacks"),
    ("data[0].target", "data: [{source: 'https://x.org/'}]", 2, "does not tell a name"),
    ("data[0].target", "data: [{source: x, target: ../y}]", 2, "leads out"),
    ("data[0].access", "data: [{source: x, access: snyc}]", 2, "not one of sync, mount; did you mean sync"),
    (
        "data[0].optional",
        "data: [{source: x, optional: 1}]",
        2,
        "expected true or false, such as optional: true",
    ),
    ("data[1]", "data:\n  - {source: a/x}\n  - {source: b/x}", 4, r"data/x is where data\[0\] lands already"),
    ("data[1]", "data:\n  - {source: x}\n  - {source: y, target: x/z}", 4, "one inside the other"),
    ("data[1]", "data:\n  - {source: y, target: x/z}\n  - {source: x}", 4, "one inside the other"),
    ("outputs", "outputs: '*.png'", 2, "expected a mapping"),
    ("outputs.include", "outputs: {include: '*.png'}", 2, r'expected a list, such as include: \["\*.png"'),
    ("outputs.exclude[0]", "outputs: {exclude: [5]}", 2, "expected text, such as cache/"),
    ("outputs.exclude[0]", "outputs: {exclude: [../x]}", 2, "leads out"),
    ("outputs.max_checkpoint_size", "outputs: {max_checkpoint_size: 1 XB}", 2, "not a size"),
    (
        "outputs.max_checkpoint_size",
        "outputs: {max_checkpoint_size: 1.5}",
        2,
        "expected a size; found the number",
    ),
    (
        "outputs.max_checkpoint_size_bytes",
        "outputs: {max_checkpoint_size_bytes: 1}",
        2,
        "`max_checkpoint_size`",
    ),
    ("seed", "seed: -1", 2, "at least 0"),
    ("seed", "seed: 4294967296", 2, "at most 4294967295"),
    ("seed", "seed: '7'", 2, 'expected a whole number, such as seed: 7; found the text "7"'),
    ("seed", "seed: 7.5", 2, "found the number 7.5"),
    ("seed", "seed: true", 2, "found true"),
    ("seed", "seed:", 2, "found nothing"),
    ("deterministic", "deterministic: yes", 2, "write true"),
    ("deterministic", "deterministic: 1", 2, "expected true or false"),
    ("accelerator", "accelerator: cuda", 2, "'cuda' is not one of any, gpu, tpu"),
    ("accelerator", "accelerator: [gpu]", 2, "is not one of"),
    ("checkpoint", "checkpoint: 30s", 2, "expected a mapping, such as checkpoint: {every: 30s, keep: 3}"),
    ("checkpoint.every", "checkpoint:\n  keep: 3\n  every: 1:30", 4, "'1:30' is not a cadence: write auto"),
    ("checkpoint.every", "checkpoint: {every: 30}", 2, "30 of what"),
    ("checkpoint.every", "checkpoint: {every: 0s}", 2, "above zero"),
    ("checkpoint.every", "checkpoint: {every: 0 steps}", 2, "above zero"),
    ("checkpoint.every", "checkpoint: {every: 1.5 epochs}", 2, "not a cadence"),
    ("checkpoint.every", "checkpoint: {every: {kind: auto}}", 2, "found a mapping"),
    ("checkpoint.keep", "checkpoint: {keep: 0}", 2, "at least 1"),
    ("checkpoint.monitor", "checkpoint: {monitor: ''}", 2, "text that is not empty"),
    ("checkpoint.mode", "checkpoint: {mode: best}", 2, "expected one of auto, min, max; found the text"),
    ("retry.max_errors", "retry: {max_errors: 0}", 2, "at least 1"),
    ("backend", "backend: torch", 2, "torch is not supported by this version"),
    ("backend", "backend: theano", 2, "expected one of tensorflow"),
    ("requirements[0]", "requirements: [einops>0.8>]", 2, "is no requirement .* such as einops>=0.8"),
    ("requirements[0]", "requirements: [-r more.txt]", 2, "an option of pip"),
    ("requirements[0]", "requirements: [./mine]", 2, "a path, which other machines do not have"),
    (
        "requirements[0]",
        "requirements: ['mine @ file:///home/me/mine']",
        2,
        "is at file:, which other machines",
    ),
    ("requirements[0]", "requirements: [Driverun==1]", 2, "driverun is there already"),
    ("requirements[1]", "requirements: [tqdm, 5]", 2, "expected text"),
    ("secrets[0]", "secrets: [PYTHONPATH]", 2, "decides how processes run"),
    ("secrets[0].name", "secrets: ['hf x']", 2, "cannot be the name of a secret"),
    ("secrets[0]", "secrets: [{name: a-b}]", 2, "'a-b' cannot be an environment variable"),
    ("secrets[1].as", "secrets: [A, {name: b, as: LD_PRELOAD}]", 2, "decides how processes run"),
    ("secrets", "secrets: [A, {name: b, as: A}]", 2, "two secrets are both seen as A"),
    ("priority", "priority: high", 2, "expected a whole number"),
    ("notes", "notes: 5", 2, "expected text"),
    ("matrix.lr", "matrix: {lr: 1}", 2, r"a list of values, such as lr: \[1\]"),
    (
        "after[1]",
        "after: [a, b]\ndata: [{source: x, target: b/c}]",
        2,
        r"results of b land in data/b, where data\[0\]",
    ),
    ("after[0]", "after: [a b]", 2, "cannot be the name of a job"),
    ("min_memory", "min_memory: lots", 2, "is not a size"),
    ("schedule", "schedule: '@daily'", 2, 'schedule: {cron: "@daily"}'),
    ("schedule", "schedule: 0 3 * * *", 2, r'schedule: {cron: "0 3 \* \* \*"}'),
    ("schedule", "schedule: daily", 2, "expected a mapping, such as schedule: "),
    ("schedule.cron", "schedule: {timezone: UTC}", 2, "this field is required, such as cron: 0 3"),
    (
        "schedule.cron",
        "schedule:\n  timezone: UTC\n  cron: 0 0 30 2 *",
        4,
        "never comes: no month",
    ),
    ("schedule.cron", "schedule: {cron: 0 3 * *}", 2, "has 4 fields; a schedule has five: minute, hour"),
    ("schedule.cron", "schedule: {cron: 0 0 3 * * *}", 2, "six fields, of which one would be seconds"),
    ("schedule.cron", "schedule: {cron: 0 25 * * *}", 2, r"'25' is no hour \(0-23\)"),
    ("schedule.cron", "schedule: {cron: '@dayly'}", 2, "no preset '@dayly'; did you mean @daily?"),
    ("schedule.cron", "schedule: {cron: '@reboot'}", 2, "Write a time"),
    ("schedule.timezone", "schedule: {cron: '@daily', timezone: Berlin}", 2, "did you mean Europe/Berlin?"),
    ("schedule.timezone", "schedule: {cron: '@daily', timezone: +01:00}", 2, "name a place"),
    ("schedule.catch_up", "schedule: {cron: '@daily', catch_up: last}", 2, "is not one of latest, all, none"),
    ("schedule.until", "schedule: {cron: '@daily', until: 31.12.2027}", 2, "write 2026-12-31"),
    ("schedule.tz", "schedule: {cron: '@daily', tz: UTC}", 2, "no field `tz`"),
    ("chekpoint", "chekpoint: {}", 2, "no field `chekpoint`; did you mean `checkpoint`"),
    ("Seed", "Seed: 3", 2, "did you mean `seed`"),
    ("checkpoint.evry", "checkpoint:\n  evry: 3s", 3, "did you mean `every`"),
    ("data[0].acess", "data:\n  - source: x\n    acess: sync", 4, "did you mean `access`"),
    ("keep", "keep: 3", 2, "it belongs under `checkpoint`"),
    ("retry.seed", "retry: {seed: 3}", 2, "it belongs to the job itself"),
    ("zzz", "zzz: 3", 2, "Values for your code go under `params`"),
    ("seed", "seed: 1\nseed: 2", 3, "given twice, first on line 2"),
]


@pytest.mark.parametrize(("field", "text", "line", "words"), FAULTS)
def test_a_fault_has_its_field_its_line_and_what_to_do(field: str, text: str, line: int, words: str) -> None:
    ((found_line, found_field, message),) = faults_of(f"entrypoint: train.py\n{text}\n")
    assert (found_field, found_line) == (field, line)
    assert re.search(words, message), message


def test_every_fault_is_reported_at_once_in_the_order_of_the_file() -> None:
    text = "\n".join(
        [
            "entrypoint: [train.py, '{x}']",
            "sead: 3",
            "data:",
            "  - {source: /a}",
            "  - {source: a/b}",
            "  - {source: c/b}",
            "params: {y: .nan, z: yes}",
            "checkpoint: {every: 5 parsecs, keeep: 1}",
            "seed: x",
            "retry: 3",
            "seed: 4",
        ]
    )
    assert [(line, field) for line, field, _ in faults_of(text, default_name="my job")] == [
        (None, "name"),
        (1, "entrypoint"),
        (2, "sead"),
        (4, "data[0].source"),
        (6, "data[2]"),
        (7, "params.y"),
        (7, "params.z"),
        (8, "checkpoint.keeep"),
        (8, "checkpoint.every"),
        (9, "seed"),
        (10, "retry"),
        (11, "seed"),
    ]


def test_the_folder_needs_a_name_that_jobs_can_have_unless_the_file_gives_one() -> None:
    ((line, field, message),) = faults_of("entrypoint: train.py", default_name="Mein Jöb!")
    assert (line, field) == (None, "name")
    assert "`name: Mein-Job`" in message
    assert parse("entrypoint: train.py\nname: ok", default_name="Mein Jöb!").name == "ok"


def test_what_is_misspelt_is_not_reported_as_missing_too() -> None:
    assert [field for _, field, _ in faults_of("entrypont: train.py\nnmae: x", default_name="my job")] == [
        "entrypont",
        "nmae",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "mapping of fields, .* this one is empty"),
        ("# only a comment\n", "this one is empty"),
        ("- train.py\n", "this one holds a list"),
        ("train.py\n", "this one holds only 'train.py'"),
        ("{}", "entrypoint: this field is required, such as entrypoint: train.py"),
        ("a: [", "not YAML"),
    ],
)
def test_a_file_that_is_no_mapping_is_shown_one(text: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        parse(text)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("learning_rate=0.1", "learning_rate", 0.1),
        ("lr=1e-3", "lr", 0.001),
        ("epochs=5", "epochs", 5),
        ("shuffle=true", "shuffle", True),
        ("name=base line: #1", "name", "base line: #1"),
        ("url=http://x/?a=b", "url", "http://x/?a=b"),
        ("layers=[64, 32]", "layers", [64, 32]),
        ('answer="yes"', "answer", "yes"),
        ("o={a: 1e-3}", "o", {"a": 0.001}),
        ("optimizer.lr=1", "optimizer.lr", 1),
        ("none=", "none", None),
        ("time=1:30", "time", "1:30"),
    ],
)
def test_an_override_means_what_it_would_mean_in_the_file(text: str, name: str, value: object) -> None:
    assert parse_override(text) == (name, value)


@pytest.mark.parametrize(
    "text", ["lr", "=1", "a..b=1", "lr=.nan", "s=yes", "l=[1", "l=[.inf]", "x=\udcff", "o={a: 1, a: 2}"]
)
def test_an_override_that_cannot_be_read_says_so(text: str) -> None:
    with pytest.raises(SpecError, match=r"^-p: "):
        parse_override(text)


SPEC = (
    "entrypoint: [train.py, '{lr}']\nparams: {lr: 0.1, optimizer: {name: adam, m: 0.9}, a.b: 1, layers: [1]}"
)


def test_overrides_reach_into_params_and_leave_the_spec_as_it_was() -> None:
    spec = parse(SPEC)
    changed = with_overrides(spec, {"lr": 0.5, "optimizer.m": 0.8, "a.b": 2, "new.deep": [1]})
    assert changed.params == {
        "lr": 0.5,
        "optimizer": {"name": "adam", "m": 0.8},
        "a.b": 2,
        "layers": [1],
        "new": {"deep": [1]},
    }
    assert spec == parse(SPEC)
    assert with_overrides(spec, {}) == spec


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"lr.x": 1}, "lr is no mapping"),
        ({"layers.0": 1}, "layers is no mapping"),
        ({"lr": float("nan")}, "JSON"),
        ({"lr": object()}, "JSON"),
    ],
)
def test_an_override_that_cannot_be_set_says_so(overrides: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        with_overrides(parse(SPEC), overrides)


@pytest.mark.parametrize(
    ("entrypoint", "paths", "words"),
    [
        ("train.py", ["train.py"], None),
        ("trian.py", ["train.py", "model.py"], "no file `trian.py` .* did you mean `train.py`"),
        ("Train.py", ["train.py"], "did you mean `train.py`"),
        ("train.py", ["src/train.py"], "did you mean `src/train.py`"),
        ("train.py", [], "add it, or name another"),
        ("pkg.mod:f", ["pkg/mod.py"], None),
        ("pkg:f", ["pkg/__init__.py"], None),
        ("pkg.mdo:f", ["pkg/mod.py"], "no module `pkg.mdo` .* did you mean `pkg/mod.py`"),
        ("[bash, run.sh]", [], None),
        ("[./run.sh]", ["run.sh"], None),
        ("[./rum.sh]", ["run.sh"], "did you mean `run.sh`"),
        ("[python, train.py]", ["model.py"], "no file `train.py`"),
    ],
)
def test_an_entrypoint_has_to_be_among_the_files_of_the_job(
    entrypoint: str, paths: list[str], words: str | None
) -> None:
    text = f"seed: 1\nentrypoint: {entrypoint}"
    faults = check_code(parse(text), file="job.yaml", paths=paths, text=text.encode())
    assert len(faults) == (words is not None)
    for fault in faults:
        assert (fault.file, fault.line, fault.field) == ("job.yaml", 2, "entrypoint")
        assert re.search(words or "", fault.message), fault.message


def test_a_spec_is_frozen_and_refuses_what_a_file_could_not_say() -> None:
    spec = parse("entrypoint: train.py")
    with pytest.raises(ValueError, match="frozen"):
        spec.__setattr__("seed", 3)
    with pytest.raises(ValueError, match="lands already"):
        JobSpec(name="x", entrypoint=spec.entrypoint, data=(DataSource(source="a"), DataSource(source="b/a")))
    with pytest.raises(ValueError, match="whole numbers"):
        Cadence(kind=CadenceKind.STEPS, value=1.5)
    with pytest.raises(ValueError, match="auto has no value"):
        Cadence(kind=CadenceKind.AUTO, value=3)
