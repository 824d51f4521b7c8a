"""A laboratory for resumes: one process, real Keras, power cuts at chosen steps.

A cut is an exception that nothing catches, raised right after a step; what survives it is what the runner would have
committed: the newest sealed snapshot and the ends of finished fits. Everything else of the attempt is deleted.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import keras
import numpy as np
import pytest

from driverun.clock import SystemClock
from driverun.spool.buffers import newest_snapshot
from driverun.spool.events import Event, EventKind, EventReader
from driverun.spool.folder import SpoolFolder
from driverun.spool.outputs import OutputRule, outputs_sha256
from driverun.spool.request import TrainingRequest
from driverun.training import keras_data, keras_fit, keras_stack
from driverun.training.current import CurrentRun, set_current_run
from driverun.training.session import TrainingSession

Script = Callable[[], None]

#: For scripts that save models: Keras hands h5py TensorFlow's tensors, which know NumPy 1's protocol only.
SAVES_MODELS = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)


class PowerCut(BaseException):
    """The attempt ends here."""


class CutSession(TrainingSession):
    """A session whose power fails after a chosen step of the run."""

    cut_at: int | None = None

    hand_over_at: int | None = None

    def put_progress(self, **numbers: int) -> None:
        super().put_progress(**numbers)
        if self.cut_at is not None and self.step >= self.cut_at:
            raise PowerCut(f"at step {self.step}")
        if self.hand_over_at is not None and self.step >= self.hand_over_at:
            self.ask_hand_over()

    def hand_over(self) -> NoReturn:
        self.events.write(EventKind.HANDED_OVER, step=self.step)
        raise PowerCut(f"handed over at step {self.step}")


@dataclass
class Attempt:
    """What one attempt left."""

    finished: bool
    executed: int
    events: list[Event]
    outputs: dict[str, Path]

    def of(self, kind: EventKind) -> list[Event]:
        return [event for event in self.events if event.kind is kind]

    @property
    def reasons(self) -> list[str]:
        return [event.fields["reason"] for event in self.of(EventKind.APPROXIMATE)]

    @property
    def state_sha256(self) -> str:
        (event,) = self.of(EventKind.FINISHED)
        return str(event.fields["state_sha256"])

    @property
    def histories(self) -> list[Any]:
        return [event.fields["history"] for event in self.of(EventKind.FIT_ENDED)]

    @property
    def outputs_sha256(self) -> str:
        return outputs_sha256(self.outputs)


@dataclass
class Lab:
    """Runs a script in attempts, each on a disk of its own."""

    folder: Path
    every_steps: int = 7
    cadence: str = "steps"
    seed: int = 7
    deterministic: bool | None = None
    code_changed: bool = False
    continues: str | None = None
    weights: Path | None = None  #: a snapshot that the first fit starts from
    attempts: list[Attempt] = field(default_factory=list)
    _survived: Path | None = None

    def run(self, script: Script, *cuts: int) -> list[Attempt]:
        """Run `script` to its end through power cuts after the given steps."""
        for cut in cuts:
            attempt = self.attempt(script, cut_at=cut)
            assert not attempt.finished, f"the script ended before step {cut}"
        assert self.attempt(script).finished
        return self.attempts

    def continue_from(self, other: Lab) -> None:
        """Take up the newest state in the middle of a fit that the last attempt of `other` left."""
        disk = other.disk
        survived = self.folder / "survived-0"
        survived.mkdir(parents=True)
        with newest_snapshot(disk / "buffers") as found:
            assert found is not None, "it left none"
            shutil.copytree(found[0], survived / "checkpoint")
            fits_finished = found[1].fits_finished
        shutil.copytree(disk / "spool" / "fits", survived / "fits")
        for fit in sorted((survived / "fits").iterdir())[fits_finished:]:
            shutil.rmtree(fit)
        shutil.copytree(disk / "spool" / "files", survived / "files")
        self._survived = survived
        self.continues = "other-0123456789ab"

    @property
    def disk(self) -> Path:
        """Of the newest attempt."""
        return self.folder / f"disk-{len(self.attempts)}"

    def attempt(
        self, script: Script, *, cut_at: int | None = None, hand_over_at: int | None = None
    ) -> Attempt:
        """Run `script` once, to its end or until its power fails or it is asked to hand over."""
        number = len(self.attempts) + 1
        disk = self.folder / f"disk-{number}"
        spool = SpoolFolder(path=disk / "spool")
        spool.make()
        work = disk / "work"
        work.mkdir()
        request = self._request(number, disk)
        if self._survived is not None:
            shutil.copytree(self._survived / "files", spool.files, dirs_exist_ok=True)
            shutil.copytree(self._survived / "fits", spool.path / "restore" / "fits", dirs_exist_ok=True)
            fits = len(list((self._survived / "fits").iterdir()))
            has_checkpoint = (self._survived / "checkpoint").exists()
            if has_checkpoint:
                shutil.copytree(self._survived / "checkpoint", spool.restored_checkpoint)
            request = replace(request, restore_fits=fits, restore_checkpoint=has_checkpoint)
        if self.weights is not None:
            shutil.copytree(self.weights, spool.initial_weights)
            request = replace(request, weights_of="other-0123456789ab")
        session = CutSession(request, spool, clock=SystemClock())
        session.cut_at = cut_at
        session.hand_over_at = hand_over_at
        with warnings.catch_warnings():
            # A power cut leaves files open; in a process that goes on, they are closed when they are collected.
            warnings.filterwarnings("ignore", "unclosed file", ResourceWarning)
            finished = self._execute(session, script, work)
            gc.collect()
        session.close()
        attempt = Attempt(
            finished=finished,
            executed=session.executed,
            events=list(EventReader(spool.events).read()),
            outputs={path: work / path for path, _ in OutputRule().find(work)},
        )
        self.attempts.append(attempt)
        if not finished:
            self._power_cut(disk, spool, Path(request.buffers))
        return attempt

    def _request(self, number: int, disk: Path) -> TrainingRequest:
        return TrainingRequest(
            run_id="lab-0123456789ab",
            name="lab",
            attempt=number,
            worker=f"worker{number}",
            entrypoint_kind="script",
            entrypoint="train.py",
            argv=(),
            params={},
            seed=self.seed,
            deterministic=self.deterministic,
            backend=None,
            working_folder=str(disk / "work"),
            buffers=str(disk / "buffers"),
            cadence_kind=self.cadence,
            cadence_value=self.every_steps,
            monitor=None,
            interrupted_before=number > 1,
            code_changed=self.code_changed and number > 1,
            continues=self.continues,
        )

    def _execute(self, session: CutSession, script: Script, work: Path) -> bool:
        keras.utils.clear_session(free_memory=False)
        random.seed(self.seed)
        np.random.seed(self.seed)
        keras_stack.prepare(session)
        keras_data.count_iterations()
        uninstall = keras_fit.install(session)
        before = Path.cwd()
        os.chdir(work)
        set_current_run(CurrentRun(data_dir=work / "data", output_dir=work, seed=self.seed))
        try:
            script()
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="__array__ implementation doesn't accept a copy")
                for task in session.at_end:
                    task()
            session.events.write(EventKind.FINISHED, state_sha256=session.state_sha256, step=session.step)
        except PowerCut:
            return False
        finally:
            os.chdir(before)
            set_current_run(None)
            uninstall()
        return True

    def _power_cut(self, disk: Path, spool: SpoolFolder, buffers: Path) -> None:
        survived = self.folder / f"survived-{len(self.attempts)}"
        (survived / "fits").mkdir(parents=True)
        earlier = spool.path / "restore"
        for source in (earlier / "fits", spool.path / "fits"):
            shutil.copytree(source, survived / "fits", dirs_exist_ok=True)
        shutil.copytree(spool.files, survived / "files")
        fits = len(list((survived / "fits").iterdir()))
        with newest_snapshot(buffers) as found:
            if found is not None and found[1].fits_finished == fits:
                shutil.copytree(found[0], survived / "checkpoint")
            elif (
                found is None
                and (earlier / "checkpoint").exists()
                and fits == len(list((earlier / "fits").iterdir()))
            ):
                shutil.copytree(earlier / "checkpoint", survived / "checkpoint")
        shutil.rmtree(disk)
        self._survived = survived


def assert_same(whole: Sequence[Attempt], cut: Sequence[Attempt]) -> None:
    """The last attempt of `cut` ended as the only one of `whole`, and says that it is exact."""
    assert cut[-1].reasons == whole[-1].reasons == []
    assert cut[-1].histories == whole[-1].histories
    assert cut[-1].outputs_sha256 == whole[-1].outputs_sha256, (cut[-1].outputs, whole[-1].outputs)
    assert cut[-1].state_sha256 == whole[-1].state_sha256


def assert_resumes(tmp_path: Path, script: Script, *cuts: int, every_steps: int = 3, a_call: int = 1) -> Lab:
    """Run `script` whole, and through power cuts after the given steps: the same end, no step more than was lost.

    `a_call`: steps that one call of the training function makes.
    """
    labs = []
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
        labs.append(Lab(tmp_path / name, every_steps=every_steps))
    whole = labs[0].run(script)
    cut = labs[1].run(script, *cuts)
    assert_same(whole, cut)
    assert sum(attempt.executed for attempt in cut) <= whole[0].executed + len(cuts) * (
        every_steps - 1 + a_call
    )
    return labs[1]


def reasons_after(tmp_path: Path, script: Script, *cuts: int, every_steps: int = 3) -> list[str]:
    """Run `script` through power cuts; why its last attempt says to be approximate."""
    return Lab(tmp_path, every_steps=every_steps).run(script, *cuts)[-1].reasons
