"""The `colab` command: its grammar, its words, its lies."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from driverun.clock import SystemClock
from driverun.testing.colab_cli.cloud import VARIABLE, Cloud, Machine
from driverun.testing.colab_cli.plan import Sight

LOOK_S = 0.05
KNOWN = ("T4", "L4", "G4", "A100", "H100")

#: What 0.7.5 takes, by its own `--help`; "=" follows an option with a value, and what has no dash is a place.
GRAMMAR: dict[str, tuple[str, ...]] = {
    "": ("-c|--client-oauth-config=", "--config=", "--logtostderr", "--auth="),
    "new": ("-s|--session=", "--tpu=", "--gpu=", "--high-mem"),
    "upload": ("-s|--session=", "local_path", "remote_path"),
    "exec": ("-s|--session=", "-f|--file=", "--output-image=", "--timeout=", "--env="),
    "stop": ("-s|--session=",),
    "sessions": (),
    "usage": (),
    "status": ("-s|--session=",),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; gives the exit code, which may lie."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(given)
    cloud = Cloud(Path(os.environ[VARIABLE]))
    code = Path(options.file).read_text(encoding="utf-8") if options.command == "exec" else None
    cloud.note("called", command=options.command, argv=given, code=code)
    return _Colab(cloud, options).run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="colab", allow_abbrev=False)
    _add(parser, GRAMMAR[""])
    commands = parser.add_subparsers(dest="command", required=True)
    for command, words in GRAMMAR.items():
        if command:
            _add(commands.add_parser(command, allow_abbrev=False), words)
    return parser


def _add(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    for word in words:
        names = word.rstrip("=").split("|")
        if word.endswith("=") or not word.startswith("-"):
            parser.add_argument(*names)
        else:
            parser.add_argument(*names, action="store_true")


class _Colab:
    """One call of the command."""

    def __init__(self, cloud: Cloud, options: argparse.Namespace) -> None:
        self._cloud = cloud
        self._options = options
        self._notes = Path(options.config) if options.config else cloud.folder / "sessions.json"
        self._clock = SystemClock()

    def run(self) -> int:
        match self._options.command:
            case "new":
                return self._new()
            case "upload":
                return self._upload()
            case "exec":
                return self._exec()
            case "stop":
                return self._stop()
            case "sessions":
                return self._sessions()
            case "usage":
                return self._usage()
            case _:
                _say(f"[colab] Session '{self._options.session}' not found.")
                return 0

    # The sign-in, and the notes.

    def _is_signed_out(self) -> bool:
        """Asks for a code, as the command does, if the sign-in is over."""
        limit = self._cloud.plan.signed_out_from
        if limit is None or self._cloud.calls(limit[0]) < limit[1]:
            return False
        _say("\nTo authorize colab-cli, visit this URL in any browser:\n", error=True)
        _say("  https://accounts.google.com/o/oauth2/auth?response_type=code&client_id=1\n", error=True)
        _say("After approving, Google will display an authorization code.", error=True)
        sys.stdout.write("Enter the authorization code: ")
        sys.stdout.flush()
        return True

    def _abort(self) -> int:
        _say("Aborted.", error=True)
        return 1

    def _read(self) -> dict[str, str]:
        """Endpoints by name."""
        try:
            found = json.loads(self._notes.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return {name: note["endpoint"] for name, note in found.items()}

    def _write(self, notes: dict[str, str]) -> None:
        self._notes.parent.mkdir(parents=True, exist_ok=True)
        content = {name: {"name": name, "endpoint": endpoint} for name, endpoint in notes.items()}
        self._notes.write_text(json.dumps(content))

    def _forget(self, name: str) -> None:
        self._write({known: endpoint for known, endpoint in self._read().items() if known != name})

    def _session(self) -> Machine | None:
        """The VM of the name that was given, by the notes; nobody looks whether it is still there."""
        endpoint = self._read().get(self._options.session)
        if endpoint is None:
            _say(f"[colab] Session '{self._options.session}' not found.")
            return None
        found = self._cloud.machine(endpoint)
        if found is None:
            return Machine(endpoint=endpoint, hardware="", number=0, folder=self._cloud.folder / "nowhere")
        return found

    # Commands.

    def _usage(self) -> int:
        if self._is_signed_out():
            _say("[colab] Warning: failed to fetch compute-unit info: EOF when reading a line", error=True)
            return 1
        plan, running = self._cloud.plan, len(self._cloud.machines())
        _say(f"Current balance: {plan.balance:.2f} compute units")
        _say(f"Usage rate: {plan.rate_per_hour * running:.2f}/hr")
        _say(f"Active assignments: {running}")
        return 0

    def _new(self) -> int:
        plan, gpu = self._cloud.plan, str(self._options.gpu).upper()
        hardware = gpu if gpu in KNOWN else "A100"
        _say(f"[colab] Creating session '{self._options.session}'...")
        if self._is_signed_out():
            return self._abort()
        if hardware in plan.not_entitled:
            _say(
                f"[colab] Backend rejected accelerator '{hardware}'. You may not have quota or entitlement for this "
                "accelerator on your account. Try a different one (e.g. --gpu T4) or omit --gpu/--tpu for a CPU "
                "runtime.",
                error=True,
            )
            return 1
        refused = sum(each["hardware"] == hardware for each in self._cloud.events("refused"))
        if refused < plan.refusals.get(hardware, 0):
            self._cloud.note("refused", hardware=hardware)
            _say(
                "[colab] Allocation refused (precondition failed). This can mean too many active sessions, or a "
                "temporary usage or capacity limit for the requested runtime. Run `colab stop` to free up a session, "
                "wait and retry, or try a different accelerator.",
                error=True,
            )
            return 1
        machine = self._cloud.make(hardware)
        self._write({**self._read(), self._options.session: machine.endpoint})
        _say("[colab] Session READY.")
        return 0

    def _sessions(self) -> int:
        notes = self._read()
        if self._is_signed_out():
            return self._abort()
        machines = self._cloud.machines()
        endpoints = {each.endpoint for each in machines}
        if pruned := [name for name, endpoint in notes.items() if endpoint not in endpoints]:
            for name in pruned:
                self._forget(name)
            _say(f"[colab] Pruned {len(pruned)} stale local session(s).")
        if not machines:
            _say("[colab] No active sessions found on server.")
            return 0
        names = {endpoint: name for name, endpoint in notes.items()}
        for each in machines:
            name = names.get(each.endpoint, "?")
            _say(f"[{name}] {each.endpoint} | Hardware: {each.hardware} | Shape: Standard | Variant: GPU")
        return 0

    def _upload(self) -> int:
        machine = self._session()
        if machine is None:
            return 1
        local, remote = Path(self._options.local_path), self._options.remote_path
        target = machine.folder / remote
        if any(part.startswith(".") for part in Path(remote).parts):
            _say("[colab] Upload failed: 404 Client Error: Not Found for url")  # Jupyter hides such names
            return 1
        if not target.parent.is_dir():
            _say("[colab] Upload failed: 500 Server Error: Internal Server Error for url")
            return 1
        shutil.copyfile(local, target)
        self._cloud.note("uploaded", endpoint=machine.endpoint, name=target.name)
        _say(f"[colab] Uploaded '{local}' to '{remote}'")
        return 0

    def _stop(self) -> int:
        name = self._options.session
        if name not in self._read():
            _say(f"[colab] Session '{name}' not found.")
            return 0  # though it may run
        _say(f"[colab] Stopping session '{name}'...")
        if self._is_signed_out():
            return self._abort()
        machine = self._session()
        if machine is None or not machine.folder.exists():
            _say("ColabRequestError: Failed to issue request GET unassign: Not Found", error=True)
            return 1  # though it is gone
        self._cloud.destroy(machine, "stopped")
        self._forget(name)
        _say("[colab] Session terminated.")
        return 0

    def _exec(self) -> int:
        machine = self._session()
        if machine is None:
            return 1
        if not machine.folder.exists():
            return self._lost()
        log = self._cloud.logs / f"{machine.endpoint}.log"
        log.touch()
        source = machine.folder / "cell.py"
        shutil.copyfile(self._options.file, source)
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "driverun.testing.colab_cli.machine",
                str(self._cloud.folder),
                machine.endpoint,
                str(source),
            ],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # it outlives this client
        )
        return self._show(machine, log)

    def _show(self, machine: Machine, log: Path) -> int:
        plan = self._cloud.plan_of(machine)
        timeout_s = float(self._options.timeout or 30.0)
        end_s = self._clock.monotonic() + timeout_s
        with open(log, encoding="utf-8", errors="replace") as lines:
            while True:
                is_gone = not machine.folder.exists()  # before reading: the last words count
                has_ended = machine.kernel_ended.exists()
                sys.stdout.write(lines.read())
                sys.stdout.flush()
                is_over = self._cloud.checkpoints(machine) >= plan.sight_until
                if plan.sight is not Sight.FAITHFUL and is_over:
                    break
                if is_gone:
                    _say("Connection was lost.", error=True)
                    return 1
                if has_ended:
                    return 0  # whether it raised or not
                if self._clock.monotonic() > end_s:
                    self._hang()
                self._clock.sleep(LOOK_S)
        match plan.sight:
            case Sight.LOSES:
                return self._lost()
            case Sight.HANGS:
                return self._hang()
            case _:
                return 0

    def _lost(self) -> int:
        name = self._options.session
        _say(f"[colab] Session '{name}' appears to be lost (404/401). Cleaning up.")
        self._forget(name)
        return 1

    def _hang(self) -> int:
        """The real one keeps a core busy meanwhile."""
        while True:
            self._clock.sleep(1.0)


def _say(text: str, *, error: bool = False) -> None:
    stream = sys.stderr if error else sys.stdout
    stream.write(f"{text}\n")
    stream.flush()
