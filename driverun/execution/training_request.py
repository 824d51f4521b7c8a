"""What a training process is asked to do, from all that was prepared for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from driverun.checkpoints.restore import Restored
from driverun.execution.assignment import Assignment
from driverun.execution.environment import changed_versions
from driverun.execution.withholding import notes_of
from driverun.execution.workdir import AttemptFolders
from driverun.spec.model import resolved_argv
from driverun.spool.request import TrainingRequest


def request_of(
    assignment: Assignment,
    folders: AttemptFolders,
    *,
    code_files: Mapping[str, str],
    data_sha256: str,
    packages: Mapping[str, str],
    secrets: Iterable[str],
    packages_before: Mapping[str, str],
    restored: Restored | None,
) -> TrainingRequest:
    """The request, with a note for each reason why the run is approximate from here on.

    Args:
        code_files: path to digest of each file of the code.
        data_sha256: of all data; "" where there are none.
        packages: versions by name of those that the job got beside the runtime's.
        secrets: the variables as which the job sees them.
        packages_before: likewise those of the attempt that made the checkpoint.
        restored: the checkpoint in the spool; None where the run begins.
    """
    spec, every = assignment.spec, assignment.spec.checkpoint.every
    notes: list[str] = []
    code_changed = False
    if restored is not None:
        notes += [*restored.reasons, *notes_of(restored.header)]
        if spec.requirements and (changed := changed_versions(packages_before, packages)):
            notes.append(f"packages changed: {', '.join(changed)}")
        before = restored.header.fingerprint
        code_changed = before.get("code_sha256", assignment.code_sha256) != assignment.code_sha256
        if code_changed:
            notes.append("code changed: the checkpoint was made by other code")
        if before.get("data_sha256", data_sha256) != data_sha256:
            notes.append("data changed: the files under data/ are not those of the checkpoint")
    return TrainingRequest(
        run_id=assignment.key.run_id,
        name=spec.name,
        attempt=assignment.key.number,
        worker=assignment.key.worker,
        entrypoint_kind=spec.entrypoint.kind.value,
        entrypoint=spec.entrypoint.value,
        argv=resolved_argv(spec.entrypoint, spec.params),
        params=dict(spec.params),
        seed=spec.seed,
        deterministic=spec.deterministic,
        backend=spec.backend,
        working_folder=str(folders.work),
        buffers=str(folders.buffers),
        memory_buffers=str(folders.memory) if folders.memory is not None else None,
        cadence_kind=every.kind.value,
        cadence_value=every.value,
        monitor=spec.checkpoint.monitor,
        code_files=dict(code_files),
        code_sha256=assignment.code_sha256,
        data_sha256=data_sha256,
        outputs_include=spec.outputs.include,
        outputs_exclude=spec.outputs.exclude,
        max_checkpoint_size_bytes=spec.outputs.max_checkpoint_size_bytes,
        restore_fits=len(restored.fits) if restored is not None else 0,
        restore_checkpoint=restored is not None and restored.has_checkpoint,
        resumed_step=restored.header.step if restored is not None else 0,
        interrupted_before=any(view.first_step is not None or view.died for view in assignment.earlier),
        code_changed=code_changed,
        secrets=tuple(secrets),
        due=assignment.run_file.computed.get("due"),
        notes=tuple(notes),
    )
