"""A root with many runs, written straight into the state of an emulated Drive."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from driverun.clock import SystemClock
from driverun.execution.jobs import Job, job_on_root
from driverun.runs.heads import head_of
from driverun.runs.layout import DATA, JOBS, LEDGER, ROOT_FILE, RUNS, AttemptKey, WishKind, wish_file
from driverun.runs.record import AttemptState, Claim, Failure, ProcessId, Record, ResultsRef, Wish
from driverun.runs.state import RunState
from driverun.spec.identity import computed_part, run_id_of, spec_to_json
from driverun.spec.parser import with_overrides
from driverun.storage.drive.remote import mime_type_for
from driverun.storage.memory import MemoryStore
from driverun.testing.drive_emulator.records import FOLDER, FileRecord, Permission, Property, Revision
from driverun.testing.drive_emulator.state import State
from driverun.transfer.code import capture_code

#: Of a root that has been in use for some time.
USUAL_MIX: Mapping[RunState, float] = {
    RunState.SUCCEEDED: 0.80,
    RunState.QUEUED: 0.10,
    RunState.FAILED: 0.05,
    RunState.INTERRUPTED: 0.04,
    RunState.RUNNING: 0.01,
}
JOB = "digits"
_SCRIPT = b"""'''It does nothing, so that what is measured is the queue.'''\n"""
_JOB_FILE = b"""\
entrypoint: [python, train.py]
params: {number: 0, epochs: 5, learning_rate: 0.01}
data: [{source: data/digits.npz}]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RootFile:
    """One file of a root."""

    path: str
    content: bytes
    created_at: datetime
    modified_at: datetime
    properties: Mapping[str, str] = field(default_factory=dict)


def files_of_many_runs(
    count: int, *, now: datetime, mix: Mapping[RunState, float] = USUAL_MIX, seed: int = 0
) -> Iterator[RootFile]:
    """All files of a root with so many runs of one job; all but the results and checkpoints.

    Args:
        now: when those at work gave their last sign of life; the runs are of the month before.
        mix: how many of the runs stand how.
    """
    job, code_sha256, others = _the_job(now - timedelta(days=31))
    yield from others
    states = [state for state, share in mix.items() for _ in range(round(share * count))]
    states = (states + [RunState.SUCCEEDED] * count)[:count]
    luck = random.Random(seed)
    luck.shuffle(states)
    for number, state in enumerate(states):
        at = now - timedelta(days=30) * (1 - number / count) - timedelta(minutes=30)
        yield from _files_of(number, state, job, code_sha256, at=at, now=now, luck=luck)


def put_into_drive(state: State, files: Iterable[RootFile], *, account: str, root: str) -> None:
    """Put the files into the folder `root` of the account's My Drive, as if they had been there for long.

    Folders that are there are used, and files that are there stay.
    """
    permission = Permission(id=state.permission_id(account), type="user", role="owner", value=account)
    folders: dict[str, str] = {}
    top = state.root_of(account).id

    def record(title: str, parent: str, mime_type: str, at: datetime, **more: object) -> FileRecord:
        ms = round(at.timestamp() * 1000)
        made = FileRecord(
            id=state.new_id(account),
            title=title,
            mime_type=mime_type,
            owner=account,
            created_at=ms,
            modified_at=ms,
            modified_by=account,
            parents=(parent,),
            permissions=(permission,),
        )
        return state.put_file(replace(made, **more))  # type: ignore[arg-type]

    def there(parent: str, title: str) -> str | None:
        inside = state.current.children.get(parent, ())
        return next((each for each in inside if state.current.files[each].title == title), None)

    def folder(path: str, at: datetime) -> str:
        if path not in folders:
            above, _, name = path.rpartition("/")
            parent = folder(above, at) if above else top
            folders[path] = there(parent, name) or record(name, parent, FOLDER, at).id
        return folders[path]

    with state.writing():
        for file in files:
            place, _, title = f"{root}/{file.path}".rpartition("/")
            if file.path == ROOT_FILE and there(folder(place, file.created_at), title):
                continue
            incoming = state.blobs.receive()
            incoming.write(file.content)
            sums = incoming.finish()
            modified_ms = round(file.modified_at.timestamp() * 1000)
            revision = Revision(
                id="0B" + state.new_word(40),
                blob=state.blobs.keep(incoming.path),
                size_bytes=sums.size_bytes,
                md5=sums.md5,
                sha1=sums.sha1,
                sha256=sums.sha256,
                mime_type=mime_type_for(title),
                modified_at=modified_ms,
                modified_by=account,
            )
            record(
                title,
                folder(place, file.created_at),
                mime_type_for(title),
                file.created_at,
                modified_at=modified_ms,
                revisions=(revision,),
                properties=tuple(
                    Property(key=key, value=value, visibility="PUBLIC")
                    for key, value in file.properties.items()
                ),
            )
        for name in (JOBS, DATA, LEDGER, RUNS):
            folder(f"{root}/{name}", datetime.now(UTC))


def _the_job(at: datetime) -> tuple[Job, str, list[RootFile]]:
    """A job that does nothing, the digest of its code, and all that belongs to it on a root."""
    store = MemoryStore(SystemClock())
    store.create(f"{JOBS}/{JOB}/job.yaml", _JOB_FILE)
    store.create(f"{JOBS}/{JOB}/train.py", _SCRIPT)
    store.create(f"{DATA}/digits.npz", b"eight by eight")
    store.create(ROOT_FILE, b'{"format_version": 1}')
    job = job_on_root(store, JOB)
    code_sha256 = capture_code(store, job.files)
    return (
        job,
        code_sha256,
        [
            RootFile(path=info.path, content=store.read(info.path), created_at=at, modified_at=at)
            for info in store.list("", recursive=True)
        ],
    )


def _files_of(
    number: int,
    state: RunState,
    job: Job,
    code_sha256: str,
    *,
    at: datetime,
    now: datetime,
    luck: random.Random,
) -> Iterator[RootFile]:
    spec = with_overrides(job.spec, {"number": number})
    run_id = run_id_of(spec, code_sha256=code_sha256)
    wish = Wish(
        run_id=run_id,
        kind=WishKind.SUBMIT,
        wish_id=luck.randbytes(16).hex(),
        wished_at=at,
        by="person@laptop",
        details={
            "job": f"{JOBS}/{job.name}",
            "job_sha256": job.sha256,
            "spec": spec_to_json(spec),
            "code_sha256": code_sha256,
            "computed": computed_part(spec, code_sha256=code_sha256, repeat=0),
        },
    )
    content = wish.to_bytes()
    path = wish_file(run_id, WishKind.SUBMIT, wish.wish_id)
    yield RootFile(
        path=path, content=content, created_at=at, modified_at=at, properties=head_of(wish, content)
    )
    if state is RunState.QUEUED:
        return
    process = ProcessId(
        host=f"colab-{luck.randrange(100)}",
        boot_id=f"{luck.randbytes(16).hex()}/pid:[4026531836]",
        pid=luck.randrange(300, 30_000),
        started=str(luck.randrange(10**7)),
    )
    key = AttemptKey(run_id=run_id, number=1, worker="w" + luck.randbytes(4).hex())
    began = at + timedelta(minutes=1)
    claim = Claim(run_id=run_id, number=1, worker=key.worker, process=process, claimed_at=began)
    content = claim.to_bytes()
    yield RootFile(
        path=key.claim_file,
        content=content,
        created_at=began,
        modified_at=began,
        properties=head_of(claim, content),
    )
    ended = now if state is RunState.RUNNING else began + timedelta(minutes=10)
    record = _record_of(key, process, state, began=began, ended=ended, luck=luck)
    content = record.to_bytes()
    yield RootFile(
        path=key.record_file,
        content=content,
        created_at=began,
        modified_at=ended,
        properties=head_of(record, content),
    )


def _digest(luck: random.Random) -> str:
    return hashlib.sha256(luck.randbytes(8)).hexdigest()


def _record_of(
    key: AttemptKey,
    process: ProcessId,
    state: RunState,
    *,
    began: datetime,
    ended: datetime,
    luck: random.Random,
) -> Record:
    record = Record(
        run_id=key.run_id,
        number=key.number,
        worker=key.worker,
        process=process,
        state=AttemptState[state.name],
        beat=30,
        started_at=began,
        updated_at=ended,
        fit=0,
        epoch=luck.randrange(5),
        step=luck.randrange(100, 1500),
        first_step=0,
        total_steps=1500,
        committed_step=100,
        metrics={"fit.loss": luck.random(), "fit.accuracy": luck.random(), "fit.val_loss": luck.random()},
        environment={
            "python": "3.12.3",
            "tensorflow": "2.19.0",
            "gpu": "Tesla T4",
            "first_checkpoint_s": 14.2,
        },
        lease_s=60.0,
    )
    more: Mapping[RunState, Callable[[], Record]] = {
        RunState.RUNNING: lambda: replace(record, reason="training"),
        RunState.INTERRUPTED: lambda: replace(record, ended_at=ended, reason="the runtime's time was up"),
        RunState.FAILED: lambda: replace(
            record,
            ended_at=ended,
            reason="ValueError: the loss is not finite",
            failure=Failure(
                kind="ValueError", message="the loss is not finite", traceback="Traceback\n" + "  line\n" * 60
            ),
        ),
        RunState.SUCCEEDED: lambda: replace(
            record,
            ended_at=ended,
            step=1500,
            epoch=5,
            committed_step=1500,
            state_sha256=_digest(luck),
            outputs_sha256=_digest(luck),
            results=ResultsRef(path=key.results_folder, created_at=ended - timedelta(seconds=5)),
        ),
    }
    return more[state]()
