"""The job spec as frozen values, each field described for editors as well."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StrictBool,
    StrictInt,
    WithJsonSchema,
    field_serializer,
    model_validator,
)

from driverun.spec.cadence import CADENCE_PATTERN, Cadence, CadenceKind, read_cadence
from driverun.spec.entrypoint import (
    FUNCTION_PATTERN,
    NOTEBOOK_PATTERN,
    SCRIPT_PATTERN,
    Entrypoint,
    EntrypointKind,
    read_entrypoint,
    resolved_argv,
    unknown_placeholders,
)
from driverun.spec.fields import (
    DURATION_SCHEMA,
    LIMIT_SCHEMA,
    NAME_PATTERN,
    PATH_SCHEMA,
    RUN_OR_JOB_PATTERN,
    FilePattern,
    duration_s,
    enum_of,
    job_name,
    json_params,
    limit_s,
    no_such_backend_yet,
    size_bytes,
    size_bytes_or_none,
    target_path,
    unpacking,
    without_repeats,
)
from driverun.spec.matrix import MATRIX_SCHEMA, Matrix, points, read_matrix
from driverun.spec.paths import MAX_PATH_LENGTH, same_file_key
from driverun.spec.requirements import RequirementText
from driverun.spec.schedule import CatchUp, ScheduleRules
from driverun.spec.secrets import Secret, distinct_variables
from driverun.spec.sources import SOURCE_PATTERNS, read_source
from driverun.spec.units import SIZE_PATTERN, exact_duration

__all__ = [
    "Accelerator",
    "Access",
    "Cadence",
    "CadenceKind",
    "CatchUp",
    "CheckpointRules",
    "DataSource",
    "Entrypoint",
    "EntrypointKind",
    "JobSpec",
    "Matrix",
    "OutputRules",
    "RetryRules",
    "ScheduleRules",
    "Secret",
    "disagreements",
    "resolved_argv",
]


class Access(enum.Enum):
    SYNC = "sync"  #: copied to the local disk and verified before the job starts
    MOUNT = "mount"  #: read in place where the root is mounted, else as sync


class Accelerator(enum.Enum):
    ANY = "any"  #: runs on whatever the runtime has
    GPU = "gpu"  #: waits for a runtime with a GPU
    TPU = "tpu"  #: waits for a runtime with a TPU


class StartFrom(enum.Enum):
    WEIGHTS = "weights"  #: the first fit starts from its weights, everything else is fresh
    STATE = "state"  #: its last fit goes on, for more epochs


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class DataSource(_Value):
    """One file or folder that the job reads."""

    source: Annotated[
        str,
        Field(max_length=MAX_PATH_LENGTH),
        AfterValidator(read_source),
        WithJsonSchema(
            {
                "type": "string",
                "maxLength": MAX_PATH_LENGTH,
                "anyOf": [{"pattern": pattern} for pattern in SOURCE_PATTERNS],
            }
        ),
    ] = Field(
        description="A file or folder: its path on the root, a Drive id or share link, or an address such as "
        "https:// or gs://.",
        examples=["data/mnist.npz", "https://drive.google.com/file/d/ID_OF_THE_FILE/view", "gs://bucket/set"],
    )
    access: Annotated[Access, enum_of(Access)] = Field(
        default=Access.SYNC,
        description="sync copies it to the local disk, verified; mount reads it in place where it can.",
        examples=["sync"],
    )
    unpack: Annotated[StrictBool | None, AfterValidator(unpacking)] = Field(
        default=None,
        description="Whether an archive is unpacked as it arrives. By default one is; false keeps it as a file.",
        examples=[False],
    )
    target: Annotated[
        str,
        BeforeValidator(target_path),
        WithJsonSchema({"anyOf": [PATH_SCHEMA, {"type": "null"}]}),
    ] = Field(
        default=None,
        validate_default=True,
        description="Where it lands under data/ of the working folder. By default the last part of source, for an "
        "archive that is unpacked without its suffix.",
        examples=["train.npz"],
    )
    optional: StrictBool = Field(
        default=False,
        description="true lets the job run without it where the root has none.",
        examples=[True],
    )

    @field_serializer("target")
    def _target_in_full(self, target: str) -> str | None:
        # In full, so that a target which itself begins with data/ is read back as it was.
        return f"data/{target}" if target else None


class OutputRules(_Value):
    """Which files of the working folder are results."""

    include: tuple[FilePattern, ...] = Field(
        default=("**",),
        description="Patterns of the files that are results; ** is everything that the job writes.",
        examples=[["*.png", "models/**"]],
    )
    exclude: tuple[FilePattern, ...] = Field(
        default=(),
        description="Patterns of the files that are not, even where include takes them.",
        examples=[["cache/**"]],
    )
    max_checkpoint_size_bytes: Annotated[
        int,
        BeforeValidator(size_bytes),
        WithJsonSchema(
            {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": f"^{SIZE_PATTERN}$"}]}
        ),
    ] = Field(
        default=10**9,
        validation_alias="max_checkpoint_size",
        serialization_alias="max_checkpoint_size",
        description="Up to this size, files written so far go along with each checkpoint.",
        examples=["1GB"],
    )


class CheckpointRules(_Value):
    """When training state is committed to the root, and how much of it is kept."""

    every: Annotated[
        Cadence,
        BeforeValidator(read_cadence),
        WithJsonSchema({"type": "string", "pattern": CADENCE_PATTERN}),
    ] = Field(
        default=Cadence(),
        description="auto (from measured cost), a duration, a number of steps or of epochs.",
        examples=["30s", "500 steps", "1 epoch"],
    )
    keep: StrictInt = Field(
        default=3, ge=1, description="How many of the newest checkpoints are kept; at least 1.", examples=[3]
    )
    monitor: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="The metric whose best checkpoint is kept as well, as the logs of fit name it.",
        examples=["val_loss"],
    )
    mode: Literal["auto", "min", "max"] = Field(
        default="auto",
        description="Whether less or more of monitor is better; auto goes by its name.",
        examples=["min"],
    )


class RetryRules(_Value):
    """How often the job's own errors are forgiven. Lost runtimes do not count."""

    max_errors: StrictInt = Field(
        default=1,
        ge=1,
        description="The run is FAILED after this many errors of the job's own code; at least 1.",
        examples=[1],
    )
    backoff_s: Annotated[float, BeforeValidator(duration_s), WithJsonSchema(DURATION_SCHEMA)] = Field(
        default=30.0,
        validation_alias="backoff",
        serialization_alias="backoff",
        description="How long the run rests after an error; twice as long after each further one, an hour at most.",
        examples=["1m"],
    )

    @field_serializer("backoff_s")
    def _backoff_as_written(self, seconds: float) -> str:
        return exact_duration(seconds)


class InitFrom(_Value):
    """The run whose state a new one begins with."""

    run: Annotated[str, Field(pattern=RUN_OR_JOB_PATTERN)] = Field(
        description="The id of a run, or the name of a job for its newest run that has succeeded.",
        examples=["mnist-0123456789ab", "mnist"],
    )
    what: Annotated[StartFrom, enum_of(StartFrom)] = Field(
        description="weights: the first fit starts from its weights, everything else fresh; state: its last fit goes "
        "on for more epochs.",
        examples=["weights"],
    )


class JobSpec(_Value):
    """A job as a person asks for it, every field resolved."""

    name: Annotated[
        str, AfterValidator(job_name), WithJsonSchema({"type": "string", "pattern": NAME_PATTERN})
    ] = Field(
        description="Up to 63 letters, digits, - and _. By default the name of the job's folder.",
        examples=["mnist"],
    )
    entrypoint: Annotated[
        Entrypoint,
        BeforeValidator(read_entrypoint),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "string", "pattern": f"^{SCRIPT_PATTERN}$"},
                    {"type": "string", "pattern": f"^{NOTEBOOK_PATTERN}$"},
                    {"type": "string", "pattern": f"^{FUNCTION_PATTERN}$"},
                    {
                        "type": "array",
                        "minItems": 1,
                        "prefixItems": [{"type": "string", "pattern": r"\S"}],
                        "items": {"type": "string"},
                    },
                ]
            }
        ),
    ] = Field(
        description="What is started: a script, a notebook, package.module:function, or a list of a program and its "
        "arguments. Items of a list may hold {param}.",
        examples=["train.py", "train.ipynb", "package.module:main", ["train.py", "--lr", "{learning_rate}"]],
    )
    params: Annotated[Mapping[str, JsonValue], BeforeValidator(json_params)] = Field(
        default_factory=dict,
        description="Values for the job's code; `driverun submit -p name=value` sets them for one run.",
        examples=[{"epochs": 5, "batch_size": 32}],
    )
    data: tuple[DataSource, ...] = Field(
        default=(),
        description="What the job reads; it lands in data/ of the working folder.",
        examples=[[{"source": "data/mnist.npz"}]],
    )
    outputs: OutputRules = Field(
        default=OutputRules(),
        description="Which files that the job leaves in its working folder are results.",
        examples=[{"exclude": ["cache/**"]}],
    )
    seed: StrictInt = Field(
        default=0,
        ge=0,
        le=2**32 - 1,
        description="Seeds Python, NumPy and the framework; 0 to 4294967295.",
        examples=[7],
    )
    deterministic: StrictBool | None = Field(
        default=None,
        description="Whether kernels have to be deterministic. By default true on a CPU, false on a GPU.",
        examples=[True],
    )
    accelerator: Annotated[Accelerator, enum_of(Accelerator)] = Field(
        default=Accelerator.ANY,
        description="What the runtime must have: any, gpu or tpu.",
        examples=["gpu"],
    )
    checkpoint: CheckpointRules = Field(
        default=CheckpointRules(),
        description="When training state goes to the root, and how much of it is kept.",
        examples=[{"every": "30s", "keep": 3}],
    )
    retry: RetryRules = Field(
        default=RetryRules(),
        description="How many errors of the job's own code end the run.",
        examples=[{"max_errors": 2, "backoff": "1m"}],
    )
    timeout_s: Annotated[float | None, BeforeValidator(limit_s), WithJsonSchema(LIMIT_SCHEMA)] = Field(
        default=None,
        validation_alias="timeout",
        serialization_alias="timeout",
        description="For how long attempts may work on the run, all together; then it is FAILED, its state kept.",
        examples=["6h"],
    )
    stop_when_idle_s: Annotated[float | None, BeforeValidator(limit_s), WithJsonSchema(LIMIT_SCHEMA)] = Field(
        default=None,
        validation_alias="stop_when_idle",
        serialization_alias="stop_when_idle",
        description="After so long without a step or a line of output the job is stopped, as an error of its own.",
        examples=["10m"],
    )
    schedule: ScheduleRules | None = Field(
        default=None,
        description="When runs of the job are due; without it, it makes one run when it is found.",
        examples=[{"cron": "0 3 * * *", "timezone": "Europe/Berlin"}],
    )
    backend: Annotated[
        Literal["tensorflow", "jax", "torch"] | None,
        AfterValidator(no_such_backend_yet),
        WithJsonSchema({"enum": ["tensorflow", None]}),
    ] = Field(
        default=None, description="The backend of Keras. By default the job's own.", examples=["tensorflow"]
    )
    requirements: tuple[RequirementText, ...] = Field(
        default=(),
        description="Packages that the job needs beside those of the runtime, as pip writes them.",
        examples=[["einops>=0.8", "tqdm==4.66.4"]],
    )
    matrix: Annotated[Matrix | None, BeforeValidator(read_matrix), WithJsonSchema(MATRIX_SCHEMA)] = Field(
        default=None,
        description="Params with lists of values: a run for each combination. include adds points, exclude takes some "
        "away, max_parallel says how many are at work at a time.",
        examples=[{"learning_rate": [0.1, 0.01]}],
    )
    after: Annotated[
        tuple[
            Annotated[
                str, AfterValidator(job_name), WithJsonSchema({"type": "string", "pattern": NAME_PATTERN})
            ],
            ...,
        ],
        AfterValidator(without_repeats),
    ] = Field(
        default=(),
        description="Names of jobs of this root whose runs have to succeed first; their results lie in data/NAME.",
        examples=[["prepare"]],
    )
    min_memory_bytes: Annotated[
        int | None,
        BeforeValidator(size_bytes_or_none),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "integer", "minimum": 0},
                    {"type": "string", "pattern": f"^{SIZE_PATTERN}$"},
                    {"type": "null"},
                ]
            }
        ),
    ] = Field(
        default=None,
        validation_alias="min_memory",
        serialization_alias="min_memory",
        description="Main memory that the runtime must have; it waits for one that has it.",
        examples=["12GB"],
    )
    secrets: Annotated[tuple[Secret, ...], AfterValidator(distinct_variables)] = Field(
        default=(),
        description="Names of secrets that the job sees as environment variables; values are kept elsewhere.",
        examples=[["HF_TOKEN", {"name": "wandb", "as": "WANDB_API_KEY"}]],
    )
    init_from: InitFrom | None = Field(
        default=None,
        description="Another run that this one begins with.",
        examples=[{"run": "mnist", "what": "weights"}],
    )
    priority: StrictInt = Field(
        default=0, description="Runs with a higher number are claimed first.", examples=[10]
    )
    notes: str = Field(default="", description="Anything a person wants to remember.", examples=["baseline"])

    @field_serializer("matrix")
    def _matrix_as_written(self, matrix: Matrix | None) -> dict[str, JsonValue] | None:
        return matrix.to_json() if matrix is not None else None

    @field_serializer("timeout_s", "stop_when_idle_s")
    def _limit_as_written(self, seconds: float | None) -> str | None:
        return None if seconds is None else exact_duration(seconds)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> JobSpec:
        found = disagreements(
            self.entrypoint, self.params, tuple(enumerate(self.data)), matrix=self.matrix, after=self.after
        )
        for _, message in found:
            raise ValueError(message)
        return self


def disagreements(
    entrypoint: Entrypoint | None,
    params: Mapping[str, JsonValue] | None,
    sources: Sequence[tuple[int, DataSource]],
    *,
    matrix: Matrix | None = None,
    after: Sequence[str] = (),
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield the place and a message for every field that does not go together with another one.

    `None` stands for a field that is faulty itself, so that the rest can be compared all the same; `sources`
    has the sound ones with their positions.
    """
    if entrypoint is not None and params is not None:
        of_points = [dict(point) for point in points(matrix)] if matrix is not None else []
        everywhere = (
            frozenset[str].intersection(*map(frozenset, of_points)) if of_points else frozenset[str]()
        )
        for message in unknown_placeholders(entrypoint, {**params, **dict.fromkeys(everywhere, None)}):
            yield ("entrypoint",), message
    landed: dict[str, int] = {}  # target to the position of its source
    around: dict[str, int] = {}  # a folder above a target, likewise
    for index, source in sources:
        if not source.target:
            continue  # its name is on Drive; where that is taken, the run says so
        target = same_file_key(source.target)
        parts = target.split("/")
        above = ["/".join(parts[:depth]) for depth in range(len(parts) - 1, 0, -1)]
        others = [landed[folder] for folder in above if folder in landed]
        if target in landed:
            earlier = landed[target]
            message = (
                f"data/{source.target} is where data[{earlier}] lands already; give one of them a target"
            )
            yield ("data", index), message
        elif target in around or others:
            earlier = others[0] if others else around[target]
            message = (
                f"data/{source.target} and the target of data[{earlier}] lie one inside the other; change one"
            )
            yield ("data", index), message
        for number, name in enumerate(after):
            if same_file_key(name) in (target, *above):
                yield (
                    ("after", number),
                    (
                        f"the results of {name} land in data/{name}, where data[{index}] lands already; give that a"
                        " target elsewhere"
                    ),
                )
        landed.setdefault(target, index)
        for folder in above:
            around.setdefault(folder, index)
