"""Colab VMs started from outside, one after the other, until a root's queue is done."""

from __future__ import annotations

import enum
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from driverun.assembly import Surroundings, open_client, root_address
from driverun.errors import TransientStoreError, UsageError
from driverun.execution.context import Stop, StopSignal
from driverun.launchers import boot
from driverun.launchers.colab_cli import (
    GPUS,
    INSTALL,
    MANAGE,
    SIGN_IN,
    STOP_PAUSE_S,
    ColabCommand,
    Reply,
    Usage,
    is_signed_out,
    unknown_gpus,
)
from driverun.launchers.colab_cli_process import Call, Commands
from driverun.launchers.colab_cli_queue import QueueLook, RootQueue
from driverun.runs.layout import AttemptKey
from driverun.settings import Settings
from driverun.transfer.wheel import running_wheel

BOOT_FILE = Path(boot.__file__)
LEAST_PAUSE_S = 0.01  #: what is left of a pause may be less than a clock can tell
USAGE_CODE = "2"  #: of a worker that was called in a way that cannot work


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchOptions:
    """What a person asks for."""

    gpus: tuple[str, ...]  #: in the order in which they are asked for
    max_runtime_s: float  #: for all VMs together
    min_units: float = 1.0  #: with less than so many compute units left, no VM is started


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """For how long, and how often."""

    look_s: float = 15.0  #: between two looks at the root
    quiet_s: float = 300.0  #: until a VM is given up on whose worker shows no sign of life
    refused_s: float = 60.0  #: between two rounds of refused GPUs; doubled each time
    longest_refused_s: float = 900.0
    rounds: int = 6  #: of asking for every GPU
    fruitless_vms: int = 3  #: in a row, without a step committed
    handover_s: float = 300.0  #: for a worker to commit and end, of the time that is given
    stop_pause_s: float = STOP_PAUSE_S  #: before a second try to give a VM back; doubled each time
    least_s: float = 600.0  #: a VM is not worth starting for less


class End(enum.Enum):
    """Why no more VMs are started."""

    DONE = "nothing is left that a runtime with a GPU could do"
    TIME = "the time is up"
    UNITS = "the compute units are used up"
    NO_GPU = "Colab gave none of the GPUs"
    FRUITLESS = "no VM came any further"
    SIGNED_OUT = "colab's sign-in has expired"
    UNRELEASED = "a VM may not have been given back, so no other is started"
    STOPPED = "stopped by a person"
    TERMINATED = "asked to end (SIGTERM)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """What a launch came to, as the root tells it."""

    end: End
    vms: int  #: that were started
    left: Mapping[str, str] = field(default_factory=dict)  #: run -> why it is not done
    failed: Mapping[str, str] = field(default_factory=dict)  #: run -> why; those that failed meanwhile
    unreleased: tuple[str, ...] = ()  #: VMs that may still run and cost, with what to do


class Step(enum.Enum):
    """What to do about a VM."""

    WAIT = "wait"
    ASK = "ask whether it is still there"
    LEAVE = "give it back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What is to be seen of a VM at one look."""

    is_client_alive: bool  #: our end of it; says nothing of the other
    has_ended: bool  #: its worker said so itself
    is_worker_alive: bool  #: by the root
    has_worker_died: bool  #: by the root
    is_queue_done: bool
    is_time_up: bool
    quiet_s: float  #: since its worker was last seen alive
    lease_s: float


def next_step(sight: Sight, *, patience_s: float) -> Step:
    """What a VM deserves. The root's word goes before that of the client, which may hang, die or lie."""
    if sight.is_time_up or sight.has_ended:
        return Step.LEAVE
    if sight.is_worker_alive:
        return Step.WAIT
    if sight.has_worker_died:
        return Step.LEAVE
    if sight.quiet_s < sight.lease_s:
        return Step.WAIT if sight.is_client_alive else Step.ASK
    if not sight.is_client_alive or sight.is_queue_done or sight.quiet_s >= patience_s:
        return Step.LEAVE
    return Step.ASK


def find_colab(given: Path | None, environment: Mapping[str, str]) -> Path:
    """The `colab` command. Raises UsageError: it is not there."""
    found = shutil.which(str(given or "colab"), path=environment.get("PATH"))
    if found is None:
        raise UsageError(f"cannot launch: there is no {given or '`colab` command'} here. {INSTALL}")
    return Path(found)


def check_gpus(names: Sequence[str]) -> tuple[str, ...]:
    """The GPUs as `colab` spells them. Raises UsageError: one is none."""
    gpus = tuple(dict.fromkeys(name.strip().upper() for name in names if name.strip()))
    unknown = unknown_gpus(gpus)
    if unknown or not gpus:
        what = f"{', '.join(unknown)} is no GPU of Colab" if unknown else "no GPU is named"
        raise UsageError(
            f"cannot launch: {what}. There are {', '.join(GPUS)}; for any other name `colab` takes an A100, which "
            "costs a lot"
        )
    return gpus


class Launch:
    """One launch: VMs one after the other, never two at a time."""

    def __init__(
        self,
        root: str | None,
        options: LaunchOptions,
        here: Surroundings,
        *,
        commands: Commands,
        new_name: Callable[[], str],
        stop: StopSignal,
        say: Callable[[str], None],
        show: Callable[[str], None],
        patience: Patience | None = None,
    ) -> None:
        """Be ready; nothing is asked yet.

        Args:
            commands: calls `colab`.
            new_name: a name for a VM, another each time.
            show: one line that a VM printed.
        """
        self._root = root
        self._options = options
        self._here = here
        self._clock = here.clock
        self._commands = commands
        self._new_name = new_name
        self._stop = stop
        self._say = say
        self._show = show
        self._patience = patience if patience is not None else Patience()
        self._ladder = list(check_gpus(options.gpus))
        if options.max_runtime_s < self._patience.least_s:
            raise UsageError(
                f"cannot launch for {options.max_runtime_s / 3600:g} hours: a VM takes minutes to come and to go, so "
                f"give it {self._patience.least_s / 3600:.2g} hours at least"
            )
        self._settings: Settings = here.settings()
        self._end_s = here.clock.monotonic() + options.max_runtime_s
        self._vms = 0
        self._unreleased: list[str] = []

    def run(self) -> Launched:
        """Start VMs until the queue is done, the time is up, or trying makes no more sense.

        No VM is left behind, whatever happens; where one could not be given back, the result says how to do it.

        Raises:
            UsageError: it cannot be done as asked; no VM was started.
            StoreError: the root is out of reach.
        """
        address = root_address(self._root, self._here)
        if not str(address).startswith("gdrive:"):
            raise UsageError(
                f"cannot launch: {address} is a folder of this machine, which a Colab VM cannot reach. Use a root on"
                " Drive, as in --root gdrive:experiments"
            )
        login = find_login_file(self._here)
        client = open_client(self._root, self._here)
        self._queue = RootQueue(
            client, clock=self._clock, quiet_s=self._settings.quiet_s, by=self._here.person
        )
        for name, faults in self._queue.settle().items():
            self._say(f"the job {name} is INVALID: {faults}")
        self._tell_leftovers()
        first = look = self._queue.look()
        if not look.claimable:
            return self._launched(End.DONE, first, look)
        self._require_units()
        fruitless = 0
        with tempfile.TemporaryDirectory(prefix="driverun-launch-") as folder:
            luggage = _pack(Path(folder), login)
            while True:
                end = self._no_more(look, fruitless)
                if end is None:
                    end = self._one_vm(luggage, str(address), look)
                before, look = look, self._settled(look)
                if end is not None:
                    return self._launched(end, first, look)
                fruitless = 0 if look.progress != before.progress else fruitless + 1

    def _settled(self, before: QueueLook) -> QueueLook:
        """How things stand after a VM: a run that lost its runtime is nobody's once its lease is over."""
        end_s = self._clock.monotonic() + 2 * self._settings.lease_s + self._patience.look_s
        while (look := self._queue.look()).alive - before.attempts and self._stop.stop is None:
            if self._clock.monotonic() >= end_s:
                break  # whoever is at it is none of ours
            self._pause(self._patience.look_s)
        return look

    def _launched(self, end: End, first: QueueLook, last: QueueLook) -> Launched:
        if not last.claimable and not (last.alive - first.alive):
            end = end if self._stop.stop is not None or self._unreleased else End.DONE
        return Launched(
            end=end,
            vms=self._vms,
            left=last.left,
            failed={run_id: why for run_id, why in last.failed.items() if run_id not in first.failed},
            unreleased=tuple(self._unreleased),
        )

    def _no_more(self, look: QueueLook, fruitless: int) -> End | None:
        """Why no further VM is worth it; None if one is."""
        if self._stop.stop is not None:
            return End.STOPPED if self._stop.stop is Stop.USER else End.TERMINATED
        if self._unreleased:
            return End.UNRELEASED
        if not look.claimable:
            return End.DONE
        if self._left_s() < self._patience.least_s:
            return End.TIME
        if fruitless >= self._patience.fruitless_vms:
            return End.FRUITLESS
        return None

    def _left_s(self) -> float:
        return self._end_s - self._clock.monotonic()

    # Compute units.

    def _command(self, notes: Path | None = None) -> ColabCommand:
        return ColabCommand(
            self._commands,
            notes=notes or self._notes_folder / f"{self._new_name()}.json",
            clock=self._clock,
            stop_pause_s=self._patience.stop_pause_s,
        )

    @property
    def _notes_folder(self) -> Path:
        return self._settings.workdir / "colab"

    def _tell_leftovers(self) -> None:
        """Say which VMs of other launches are still there: one may have been cut off before it gave its VM back."""
        for notes in sorted(self._notes_folder.glob("*.json")):
            colab = self._command(notes)
            if colab.is_there() is False:
                colab.forget()
            else:
                self._say(
                    f"VM {colab.name} of another launch may still be there. If nobody is at it: {colab.stop_command}"
                )

    def _require_units(self) -> None:
        usage, text = self._command().usage()
        if usage is None and is_signed_out(text):
            raise UsageError(
                f"cannot launch: `colab` is not signed in, or its sign-in has expired. {SIGN_IN}"
            )
        if usage is None:
            raise UsageError(
                f"cannot launch: `colab usage` did not tell the compute units: {_short(text)}. Try it by hand."
            )
        if usage.balance < self._options.min_units:
            raise UsageError(
                f"cannot launch: {usage.balance:g} compute units are left, and --min-units is "
                f"{self._options.min_units:g}. This way is for paid compute units; without any, use the notebook."
            )
        self._say(f"{usage.balance:g} compute units are left")

    def _affordable_s(self, usage: Usage) -> float:
        """For how long they last, down to the floor, at the present rate."""
        spare = usage.balance - self._options.min_units
        return 3600.0 * spare / usage.rate_per_hour if usage.rate_per_hour > 0 else float("inf")

    # One VM.

    def _one_vm(self, luggage: _Luggage, root: str, before: QueueLook) -> End | None:
        """Have one VM and work on it; gives why there is to be no further one, if so."""
        found = self._allocated()
        if isinstance(found, End):
            return found
        colab = found
        call: Call | None = None
        code: str | None = None
        try:
            runtime_s = self._left_s() - self._patience.handover_s
            usage, _ = colab.usage()
            if usage is not None:
                runtime_s = min(runtime_s, self._affordable_s(usage))
                self._say(
                    f"{usage.balance:g} compute units are left, {usage.rate_per_hour:g} go by each hour"
                )
                if self._affordable_s(usage) < self._patience.least_s:
                    return End.UNITS
            if self._stop.stop is not None or not self._upload(colab, luggage, root, runtime_s):
                return None
            call = colab.execute(BOOT_FILE, timeout_s=self._left_s() + self._patience.handover_s)
            code = self._watch(colab, call, before)
        finally:
            if call is not None:
                call.end()
                code = self._hear(call) or code
            self._release(colab, has_left=code is not None)
        if code == USAGE_CODE:
            self._say("the worker could not begin at all; another VM would fare no better")
            return End.FRUITLESS
        return None

    def _allocated(self) -> ColabCommand | End:
        """A VM with the first GPU that is to be had."""
        pause_s = self._patience.refused_s
        for number in range(self._patience.rounds):
            if number:
                self._say(f"no GPU is to be had; asking again in {pause_s:.0f} s")
                self._pause(pause_s)
                pause_s = min(2 * pause_s, self._patience.longest_refused_s)
            for gpu in tuple(self._ladder):
                if self._stop.stop is not None:
                    return End.STOPPED if self._stop.stop is Stop.USER else End.TERMINATED
                if self._left_s() < self._patience.least_s:
                    return End.TIME
                found = self._asked_for(gpu)
                if found is not None:
                    return found
            if not self._ladder:
                break
        return End.NO_GPU

    def _asked_for(self, gpu: str) -> ColabCommand | End | None:
        colab = self._command()
        usage, text = colab.usage()
        if usage is not None and usage.balance < self._options.min_units:
            return End.UNITS
        if usage is None and is_signed_out(text):
            return End.SIGNED_OUT
        reply = Reply.UNCLEAR
        try:
            reply, text = colab.new(gpu)
        finally:
            if reply is Reply.UNCLEAR:  # there may be a VM all the same
                self._release(colab, has_left=False, quietly=True)
        if reply is Reply.MADE:
            self._vms += 1
            self._say(f"VM {colab.name} with a {gpu} is there")
            return colab
        self._say(f"{gpu}: {reply.value if reply is not Reply.UNCLEAR else _short(text)}")
        if reply is Reply.SIGNED_OUT:
            return End.SIGNED_OUT
        if reply is Reply.NOT_ENTITLED:
            self._ladder.remove(gpu)
        if colab.strangers:
            self._warn(
                f"a VM appeared that `colab` knows no name of ({', '.join(colab.strangers)}). If it is not yours, end "
                f"it: {MANAGE}"
            )
        return End.UNRELEASED if self._unreleased else None

    def _upload(self, colab: ColabCommand, luggage: _Luggage, root: str, runtime_s: float) -> bool:
        settings = luggage.settings_file(
            {
                "wheel": luggage.wheel.name,
                "login_is_key": luggage.login.is_key,
                "environment": _environment(self._settings),
                "arguments": [
                    "work", "--until-empty", "--no-cpu", "--max-runtime", f"{runtime_s:.0f}s", "--root", root,
                ],
            }
        )  # fmt: skip
        for local, name in (
            (luggage.wheel, luggage.wheel.name),
            (settings, boot.SETTINGS_NAME),
            (luggage.login.file, boot.LOGIN_NAME),
        ):
            problem = colab.upload(local, name)
            if problem is not None:
                self._say(f"cannot upload {name} to {colab.name}: {_short(problem)}")
                return False
        return True

    def _watch(self, colab: ColabCommand, call: Call, before: QueueLook) -> str | None:
        """Wait until there is nothing more to be had of the VM; gives how its worker ended, if it said so."""
        seen_s = asked_s = told_s = reached_s = self._clock.monotonic()
        was_alive = True
        while True:
            code = self._hear(call)
            try:
                look = self._queue.look()
                reached_s = self._clock.monotonic()
            except TransientStoreError as exc:
                if self._clock.monotonic() - reached_s > self._patience.quiet_s:
                    raise
                self._say(f"the root is out of reach, looking again: {exc}")
                self._pause(self._patience.look_s)
                continue
            now_s = self._clock.monotonic()
            alive = look.alive - before.attempts
            if alive:
                seen_s = now_s
                told_s = self._tell(look, alive, told_s)
            if was_alive and call.is_over and code is None:
                was_alive = False
                self._say("the client is gone without the worker's last word; the root tells the rest")
            sight = Sight(
                is_client_alive=not call.is_over,
                has_ended=code is not None,
                is_worker_alive=bool(alive),
                has_worker_died=bool(look.died - before.attempts),
                is_queue_done=not look.claimable,
                is_time_up=self._left_s() <= 0 or self._stop.stop is not None,
                quiet_s=now_s - seen_s,
                lease_s=self._settings.lease_s,
            )
            step = next_step(sight, patience_s=self._patience.quiet_s)
            if step is Step.ASK and (now_s - asked_s >= self._settings.lease_s or call.is_over):
                asked_s = now_s
                if colab.is_there() is False:
                    self._say(f"VM {colab.name} is gone")
                    return None
            if step is Step.LEAVE:
                return code
            self._pause(self._patience.look_s)

    def _hear(self, call: Call) -> str | None:
        """Show what the VM printed; gives how its worker ended, if it said so."""
        ended = None
        for line in call.news().splitlines():
            if line.startswith(boot.ENDED):
                ended = line.removeprefix(boot.ENDED).strip()
            self._show(line)
        return ended

    def _tell(self, look: QueueLook, alive: frozenset[AttemptKey], told_s: float) -> float:
        now_s = self._clock.monotonic()
        if now_s - told_s < 60.0:
            return told_s
        for key in sorted(alive):
            self._say(f"{key.run_id} is at step {look.steps.get(key.run_id, 0)}")
        return now_s

    def _pause(self, seconds: float) -> None:
        """Sleep, but hear soon if somebody asks to stop."""
        end_s = self._clock.monotonic() + seconds
        while self._stop.stop is None and (left_s := end_s - self._clock.monotonic()) > 0:
            self._clock.sleep(min(1.0, max(left_s, LEAST_PAUSE_S)))

    def _release(self, colab: ColabCommand, *, has_left: bool, quietly: bool = False) -> None:
        if not quietly:
            self._say(f"giving back VM {colab.name}")
        if colab.stop():
            return
        if has_left:
            self._say(f"{colab.name} said that it gives itself back; to be sure: colab sessions")
        elif not quietly or colab.endpoint is not None:
            self._warn(
                f"VM {colab.name} may still run and cost. Give it back: {colab.stop_command}. Or: {MANAGE}"
            )

    def _warn(self, text: str) -> None:
        """Tell of a VM that was not given back, at once: the launch may end in an error."""
        self._say(text)
        self._unreleased.append(text)


# What goes along.


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginFile:
    """A login that can travel."""

    file: Path
    is_key: bool  #: of a service account


def find_login_file(here: Surroundings) -> LoginFile:
    """The login that driverun uses here. Raises UsageError: there is none, or none that could be used elsewhere."""
    key = here.environment.get(boot.KEY_VARIABLE)
    file = Path(key) if key else boot.login_place(here.environment, here.home)
    content: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        content = json.loads(file.read_text(encoding="utf-8"))
    kind = content.get("type") if isinstance(content, dict) else None
    if kind != ("service_account" if key else "authorized_user"):
        what = f"{file} is no key of a service account" if key else "nobody is logged in here"
        raise UsageError(
            f"cannot launch: {what}. The VM gets a copy of the login that `driverun login` makes, or of the key file "
            f"of a service account that {boot.KEY_VARIABLE} names; no other login can travel. Do: driverun login"
        )
    return LoginFile(file=file, is_key=bool(key))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Luggage:
    """Files for each VM."""

    folder: Path
    wheel: Path
    login: LoginFile

    def settings_file(self, content: Mapping[str, Any]) -> Path:
        file = self.folder / boot.SETTINGS_NAME
        file.write_text(json.dumps(content, indent=1), encoding="utf-8")
        return file


def _pack(folder: Path, login: LoginFile) -> _Luggage:
    wheel = running_wheel()
    file = folder / wheel.name
    file.write_bytes(wheel.content)
    return _Luggage(folder=folder, wheel=file, login=login)


def _environment(settings: Settings) -> dict[str, str]:
    """How workers there are to keep time: as we do, since we judge them by it. They trust whom we trust."""
    found = {
        "DRIVERUN_HEARTBEAT": settings.heartbeat_s,
        "DRIVERUN_LEASE": settings.lease_s,
        "DRIVERUN_QUIET": settings.quiet_s,
        "DRIVERUN_LISTING_LAG": settings.listing_lag_s,
    }
    trusted = {"DRIVERUN_TRUSTED_AUTHORS": ",".join(sorted(settings.trusted_authors))}
    return {
        **(trusted if settings.trusted_authors else {}),
        **{name: f"{value:g}s" for name, value in found.items() if value is not None},
    }


def _short(text: str) -> str:
    """The last line that says something, for a message."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
