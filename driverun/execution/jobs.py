"""A job where it lies, here or on the root: read, checked, and put where people see it."""

from __future__ import annotations

import difflib
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from driverun.errors import Fault, IntegrityError, ObjectNotFound, SpecError, UnsafePath, UsageError
from driverun.runs.layout import JOBS
from driverun.spec.model import EntrypointKind, JobSpec
from driverun.spec.notebook import notebook_fault
from driverun.spec.parser import check_code, parse_job
from driverun.spec.paths import name_fault, path_faults
from driverun.spec.reader import read_yaml
from driverun.storage.base import ObjectInfo, ObjectStore, people_of
from driverun.transfer.checksums import sha256_of
from driverun.transfer.code import JobFiles, place_job, read_job_folder, read_job_on_root

JOB_FILE = "job.yaml"
#: Names that stand for it where a person, or an editor that adds an ending of its own, meant a job file.
_MEANT = frozenset(f"job{ending}{added}" for ending in (".yaml", ".yml") for added in ("", ".txt", ".yaml"))
_NOTEBOOK_LINE = re.compile(rb"^[ \t]*[!%]", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it lies somewhere, parsed."""

    name: str  #: of its folder or file
    spec: JobSpec
    text: bytes  #: of the job file
    files: JobFiles
    local: Path | None  #: its folder on this machine; None: it is on the root
    job_file: str  #: name of the job file in that folder
    only: tuple[str, ...] | None  #: of a lone job file: the files that are its code
    authors: tuple[str | None, ...] = ()  #: of its files on the root, where the store tells of authors

    @property
    def sha256(self) -> str:
        """Digest of all that a person wrote, operating settings included."""
        return hashlib.sha256(self.text + self.files.code_sha256.encode()).hexdigest()

    @property
    def file_on_root(self) -> str:
        """Where its job file is on the root, or will be once it is there."""
        return f"{JOBS}/{self.name}/{JOB_FILE}" if self.only is None else f"{JOBS}/{self.job_file}"

    @property
    def file(self) -> str:
        """Its job file, where it was read."""
        return self.file_on_root if self.local is None else str(self.local / self.job_file)


def local_job(path: Path) -> Job:
    """The job in the folder `path`, or in the job file `path`; `folder/job.yaml` is the same as `folder`.

    Raises:
        SpecError: it is faulty; all faults at once.
        UsageError: there is none.
    """
    if path.is_dir():
        folder, job_file = path, JOB_FILE
        if not (folder / JOB_FILE).is_file():
            meant = sorted(each.name for each in folder.iterdir() if is_misnamed(each.name))
            remedy = f"Rename {meant[0]}" if meant else "One line will do: entrypoint: train.py"
            raise UsageError(f"cannot submit {path}: there is no {JOB_FILE} in it. {remedy}")
    else:
        folder, job_file = path.parent, path.name
        if is_misnamed(job_file):
            raise UsageError(f"cannot submit {path}: a job file is called {JOB_FILE}. Rename it")
        if path.suffix != ".yaml":
            raise UsageError(
                f"cannot submit {path}: a job is a folder with a {JOB_FILE}, or a file NAME.yaml"
            )
    name = folder.resolve().name if job_file == JOB_FILE else path.stem
    text = (folder / job_file).read_bytes()
    shown = str(folder / job_file)
    spec = parse_job(text, file=shown, default_name=name)
    only = None if job_file == JOB_FILE else _code_of_lone(spec)
    files = read_job_folder(folder, only=only)
    _check(spec, name, shown, files, text)
    return Job(name=name, spec=spec, text=text, files=files, local=folder, job_file=job_file, only=only)


def job_on_root(store: ObjectStore, name: str, *, with_code: bool = True) -> Job:
    """The job `jobs/<name>` of the root: a folder, or a lone `jobs/<name>.yaml`.

    Args:
        with_code: whether it is to be run; to see what is wrong with it, few of its files have to be read.

    Raises:
        SpecError: it is faulty; all faults at once.
        ObjectNotFound: there is none.
    """
    path, folder, job_file = f"{JOBS}/{name}/{JOB_FILE}", f"{JOBS}/{name}", JOB_FILE
    try:
        text = store.read(path)
    except ObjectNotFound:
        path, folder, job_file = f"{JOBS}/{name}.yaml", JOBS, f"{name}.yaml"
        text = store.read(path)
    spec = parse_job(text, file=path, default_name=name)
    only = None if job_file == JOB_FILE else _code_of_lone(spec)
    files = read_job_on_root(
        store, folder, only=only, wants=lambda path: with_code or path.endswith(".ipynb")
    )
    _check(spec, name, path, files, text)
    return Job(
        name=name,
        spec=spec,
        text=text,
        files=files,
        local=None,
        job_file=job_file,
        only=only,
        authors=_authors(store, files, path, text) if with_code and people_of(store) is not None else (),
    )


def _authors(store: ObjectStore, files: JobFiles, path: str, text: bytes) -> tuple[str | None, ...]:
    """Who wrote what was read of a job on the root. Raises IntegrityError where it changed meanwhile."""
    job_file = files.seen.get(path.rpartition("/")[2]) or store.stat(path)
    if job_file.sha256 not in (None, sha256_of(text)) or job_file.size_bytes != len(text):
        raise IntegrityError(f"cannot read {path}: it changed while it was read. Try again.")
    authors = {info.author for info in (job_file, *files.seen.values())}
    return tuple(sorted(authors, key=lambda author: author or ""))


def _code_of_lone(spec: JobSpec) -> tuple[str, ...]:
    value = spec.entrypoint.value
    if spec.entrypoint.kind is EntrypointKind.FUNCTION:
        value = value.partition(":")[0].replace(".", "/") + ".py"
    return (value,) if value else ()


def _check(spec: JobSpec, name: str, file: str, files: JobFiles, text: bytes) -> None:
    faults = check_code(spec, file=file, paths=tuple(files.files), text=text)
    if (wrong := name_fault(name)) is not None:
        message = f"the job is called {name!r}, which {wrong}; rename its folder, or its file if it has none"
        faults += (Fault(file=file, line=None, field="", message=message),)
    faults += tuple(
        Fault(file=file, line=None, field="", message=message) for message in path_faults(files.files)
    )
    notebook = spec.entrypoint.value
    if not faults and spec.entrypoint.kind is EntrypointKind.NOTEBOOK:
        wrong = notebook_fault(files.files[notebook].content)
        if wrong is not None:
            line = read_yaml(text, file=file).line(("entrypoint",))
            faults = (Fault(file=file, line=line, field="entrypoint", message=f"`{notebook}` {wrong}"),)
    if faults:
        raise SpecError(faults)


def syntax_warning(job: Job) -> str | None:
    """What Python says of the script, if it does not compile here; another machine's Python may be newer."""
    entrypoint = job.spec.entrypoint
    if entrypoint.kind is not EntrypointKind.SCRIPT or entrypoint.value not in job.files.files:
        return None
    content = job.files.files[entrypoint.value].content
    if _NOTEBOOK_LINE.search(content):
        return None  # saved from a notebook: IPython makes Python of it
    try:
        compile(content, entrypoint.value, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as exc:
        return f"{entrypoint.value} does not compile with this Python: {exc}"
    return None


def place_on_root(store: ObjectStore, job: Job) -> None:
    """Put the job where people see and change it, unless it lies there."""
    if job.local is not None and not _is_on_root(store, job):
        place_job(store, job.local, job.name, job_file=job.job_file, only=job.only)


def twin_on_root(store: ObjectStore, job: Job) -> str | None:
    """The job file on the root beside which a job of this machine has no place: a/job.yaml and a.yaml are both a."""
    if job.local is None:
        return None  # told with the others of the root
    lies_alone = job.only is not None and _is_on_root(store, job)
    twin = f"{JOBS}/{job.name}/{JOB_FILE}" if lies_alone else f"{JOBS}/{job.name}.yaml"
    try:
        store.stat(twin)
    except ObjectNotFound:
        return None
    return twin


def _is_on_root(store: ObjectStore, job: Job) -> bool:
    """Whether the job's folder is the root's own, so that there is nothing to place."""
    assert job.local is not None
    folder = job.local.resolve()
    place = Path(store.location).expanduser().resolve() / JOBS
    return folder.is_relative_to(place)


def named_job(store: ObjectStore, name: str) -> Job:
    """The job of this name on the root. Raises UsageError with the nearest names where there is none."""
    try:
        return job_on_root(store, name)
    except (ObjectNotFound, UnsafePath, ValueError) as exc:
        near = difflib.get_close_matches(name, job_names(store.list(JOBS, recursive=True)), n=3)
        hint = f" Did you mean {', '.join(near)}?" if near else f" Name a folder with a {JOB_FILE} in it."
        raise UsageError(
            f"cannot submit {name}: it is neither a folder here nor a job under {JOBS}/ of the root.{hint}"
        ) from exc


def job_names(listing: list[ObjectInfo]) -> list[str]:
    """The names of all jobs in a listing of `jobs/`."""
    return sorted(files_by_job(listing))


def is_misnamed(name: str) -> bool:
    """Whether a file of this name was meant to be a folder's job file, and is none."""
    return name != JOB_FILE and name.casefold() in _MEANT


def misnamed_jobs(listing: list[ObjectInfo]) -> dict[str, Fault]:
    """What is wrong with each folder of `jobs/` that has no job file, and one that was meant to be it; by its name."""
    jobs = files_by_job(listing)
    found: dict[str, Fault] = {}
    for path in sorted(info.path for info in listing):
        folder, slash, file = path.removeprefix(f"{JOBS}/").partition("/")
        if slash and folder not in jobs and is_misnamed(file):
            message = f"a job file is called {JOB_FILE}; rename this one"
            found.setdefault(folder, Fault(file=path, line=None, field="", message=message))
    return found


def files_by_job(listing: list[ObjectInfo]) -> dict[str, list[ObjectInfo]]:
    """The files of each job: of a folder with a job.yaml, or of a lone one, which any file beside it may concern."""
    inside = [(info, info.path.removeprefix(f"{JOBS}/")) for info in listing]
    lone = [info for info, path in inside if "/" not in path]
    jobs: dict[str, list[ObjectInfo]] = {}
    for info, path in inside:
        name, slash, rest = path.partition("/")
        if slash and rest == JOB_FILE:
            jobs.setdefault(name, []).extend(each for each, p in inside if p.startswith(f"{name}/"))
        elif not slash and name.endswith(".yaml"):
            jobs.setdefault(name.removesuffix(".yaml"), []).extend([info, *lone])
    return jobs
