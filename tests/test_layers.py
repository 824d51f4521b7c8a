"""Who may import whom: the arrows of docs/architecture.md, held against the source of every module."""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

PACKAGE_DIR = Path(__file__).parent.parent / "driverun"

#: What each room may import beside itself, as names under `driverun`. A room is a package or a module
#: directly under it; `storage.base` allows that module alone and keeps the concrete stores out of reach.
LEAVES = {"errors", "clock", "purpose", "values"}
SEAMS = LEAVES | {"spec", "runs", "storage.base"}
PARTS = SEAMS | {"transfer", "checkpoints", "dispatch", "report", "spool", "settings"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "clock": set(),
    "purpose": set(),
    "values": set(),
    "spec": {"errors"},
    "runs": {"errors", "values"},
    "settings": {"errors", "spec"},  # durations and sizes are read by the one rule of the job file
    "storage": LEAVES,
    "spool": LEAVES,
    "training": LEAVES | {"spool"},
    "transfer": SEAMS,
    "dispatch": SEAMS,
    "report": SEAMS,
    "checkpoints": SEAMS | {"spool"},  # it commits the snapshots that stand in the spool
    "execution": PARTS,
    "assembly": PARTS | {"execution", "storage"},  # the one place that picks concrete stores
    "client": PARTS | {"execution", "assembly"},  # what scripts call, on the same calls as the commands
    "launchers": PARTS | {"execution", "assembly"},
    # doubles for every seam, so it knows what they stand in for
    "testing": PARTS | {"storage", "execution", "assembly"},
    "cli": PARTS | {"execution", "assembly", "launchers", "testing"},
    "__init__": {"training.current", "client"},  # loaded when one of their names is first asked for
    "__main__": {"cli"},
}

#: The door of every foreign library: patterns of the modules (under `driverun`) that may import it, at
#: the top of the file or in a function. A library that is not listed has no door.
DOORS: dict[str, tuple[str, ...]] = {
    "click": ("cli", "cli.*"),
    "rich": ("cli", "cli.*"),
    "tenacity": ("storage.retrying",),
    "cronsim": ("spec.schedule", "spec.due"),
    "yaml": (
        "spec.*",
        "training.current",
    ),  # the latter reads params where there is no worker to hand them over
    "pydantic": ("spec.*", "runs.*", "checkpoints.*", "transfer.*", "settings"),
    "pydantic_core": (
        "runs.heads",
        "storage.drive.auth",
    ),  # its reader of JSON, where there are megabytes of it
    "packaging": ("spec.requirements", "execution.runtime_packages"),
    "numpy": ("training.*",),
    "ml_dtypes": ("training.*",),
    "tensorflow": ("training.keras*",),
    "keras": ("training.keras*",),
    "torch": ("training.torch*", "training.pytorch*"),
    "jax": ("training.keras*",),
    "pydrive2": ("storage.drive.*",),
    # The emulator reads the discovery document that googleapiclient ships, and nothing else of it.
    "googleapiclient": ("storage.drive.*", "testing.drive_emulator.contract"),
    # The bootstrap is the text of a notebook's cell: it runs before there is a driverun, and imports nothing of it.
    "google.auth": ("storage.drive.*", "launchers.bootstrap"),
    "google.oauth2": ("storage.drive.*",),
    "oauth2client": ("storage.drive.*",),
    "httplib2": ("storage.drive.*",),
    "urllib3": ("storage.drive.*", "launchers.bootstrap"),
    "requests": ("launchers.bootstrap",),
    "fsspec": ("transfer.addresses",),
    "google.colab": ("launchers.colab", "launchers.colab_secrets", "launchers.bootstrap", "launchers.boot"),
    "keyring": ("execution.keyring_secrets",),
    "IPython": ("launchers.screen", "training.notebook*"),
    "pytest": ("testing.*",),  # suites that every implementation of a seam inherits
}

#: The only module that sleeps; everything else is handed a Clock.
MAY_SLEEP = "clock"
NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc"}


def faults_in(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """Return what one module does that its place does not allow, as `line: message`.

    `module` is the dotted name under driverun: `storage.local`, and `__init__` for driverun itself.
    """
    tree = ast.parse(source)
    faults: list[tuple[int, str]] = []
    room = module.split(".")[0]
    if room not in MAY_IMPORT:
        faults.append((1, f"{room} has no place in MAY_IMPORT; give it one, and the architecture page too"))
    for part in module.split("."):
        if part in NAMELESS:
            faults.append((1, f"a module named {part} says nothing about what is in it"))
    for line, imported in _imports(tree, module, is_package=is_package):
        problem = _import_problem(module, imported)
        if problem is not None:
            faults.append((line, problem))
    faults += _sleeps(tree, module)
    faults += _swallowed(tree)
    return [f"{line}: {message}" for line, message in sorted(faults)]


def _imports(tree: ast.Module, module: str, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """Yield the absolute dotted name of everything imported anywhere in the module, with its line."""
    here = ["driverun", *(() if module == "__init__" else module.split("."))]
    package = here if is_package or module == "__init__" else here[:-1]
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield node.lineno, alias.name
            case ast.ImportFrom(module=origin, names=names, level=level):
                base = package[: len(package) - level + 1] if level else []
                base = [*base, *(origin.split(".") if origin else ())]
                for alias in names:
                    yield node.lineno, ".".join([*base, alias.name])
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name
            case _:
                pass


def _import_problem(module: str, imported: str) -> str | None:
    root, _, name = imported.partition(".")
    if root == "driverun":
        if name == "__version__":
            return None
        if not name:
            return "imports driverun as a whole; name the module that is wanted"
        room, target = module.split(".")[0], name.split(".")[0]
        allowed = MAY_IMPORT.get(room, set())
        if target == room or any(_is_or_lies_in(name, place) for place in allowed):
            return None
        return f"{room} may not import driverun.{name} (it may: {', '.join(sorted(allowed)) or 'nothing'})"
    if root in sys.stdlib_module_names:
        return None
    doors = [patterns for library, patterns in DOORS.items() if _is_or_lies_in(imported, library)]
    if not doors:
        return f"{imported} is a library without a door in DOORS"
    if any(fnmatchcase(module, pattern) for patterns in doors for pattern in patterns):
        return None
    return f"{imported} is imported outside its door ({', '.join(p for patterns in doors for p in patterns)})"


def _is_or_lies_in(name: str, place: str) -> bool:
    return name == place or name.startswith(f"{place}.")


def _sleeps(tree: ast.Module, module: str) -> Iterator[tuple[int, str]]:
    if module == MAY_SLEEP:
        return
    time_names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "time"
    }
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=owner), attr="sleep") if owner in time_names:
                yield node.lineno, "time.sleep is for clock.py; take a Clock"
            case ast.ImportFrom(module="time", names=names) if any(alias.name == "sleep" for alias in names):
                yield node.lineno, "time.sleep is for clock.py; take a Clock"
            case _:
                pass


def _swallowed(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield every place that catches BaseException and goes on, where an interrupt would be lost."""
    for node in ast.walk(tree):
        match node:
            case ast.ExceptHandler(type=caught) if caught is None or _names_base_exception(caught):
                if not _never_goes_on(node.body):
                    yield (
                        node.lineno,
                        "catches BaseException and goes on; raise again at the end of the handler",
                    )
            case ast.Call(func=ast.Name(id="suppress") | ast.Attribute(attr="suppress"), args=args) if any(
                _names_base_exception(arg) for arg in args
            ):
                yield node.lineno, "suppresses BaseException"
            case _:
                pass


def _names_base_exception(caught: ast.expr) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "BaseException" for node in ast.walk(caught))


def _never_goes_on(body: list[ast.stmt]) -> bool:
    """Return whether a handler surely ends in `raise` or in the end of the process."""
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Return | ast.Break | ast.Continue):
                return False
    match body[-1]:
        case ast.Raise():
            return True
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="os"), attr="_exit"))):
            return True
        case _:
            return False


def _modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(PACKAGE_DIR.rglob("*.py")):
        parts = list(path.relative_to(PACKAGE_DIR).with_suffix("").parts)
        if len(parts) > 1 and parts[-1] == "__init__":
            parts.pop()
        found.append((".".join(parts), path))
    return found


@pytest.mark.parametrize(("module", "path"), [pytest.param(m, p, id=m) for m, p in _modules()])
def test_a_module_keeps_to_its_place(module: str, path: Path) -> None:
    found = faults_in(module, path.read_text(encoding="utf-8"), is_package=path.name == "__init__.py")
    assert not found, "\n".join(["", *(f"{path}:{fault}" for fault in found)])


def test_the_arrows_never_lead_back() -> None:
    arrows = {room: {place.split(".")[0] for place in places} for room, places in MAY_IMPORT.items()}
    list(graphlib.TopologicalSorter(arrows).static_order())  # raises CycleError


def test_every_room_of_the_table_exists_or_is_still_to_come() -> None:
    rooms = {module.split(".")[0] for module, _ in _modules()}
    assert set(MAY_IMPORT) - rooms <= {"settings", "assembly"}


@pytest.mark.parametrize(
    ("module", "source", "words"),
    [
        (
            "runs.state",
            "from driverun.storage.base import ObjectStore",
            "runs may not import driverun.storage",
        ),
        ("runs.state", "from ..spec import model", "runs may not import driverun.spec.model"),
        ("spec.parser", "import driverun.runs.layout", "spec may not import"),
        ("spool.events", "def f():\n    from driverun.runs.layout import x", "2: spool may not import"),
        ("training.entry", "from driverun import execution", "training may not import driverun.execution"),
        (
            "training.entry",
            "if TYPE_CHECKING:\n    from driverun.spec.model import S",
            "training may not import",
        ),
        ("dispatch.claim", "from driverun.storage.local import LocalStore", "dispatch may not import"),
        ("dispatch.claim", "from driverun.storage import base, local", "driverun.storage.local"),
        ("dispatch.claim", "import driverun.storage", "dispatch may not import driverun.storage "),
        ("transfer.pack", "from driverun.spool.layout import x", "transfer may not import"),
        ("execution.worker", "from driverun.assembly import x", "execution may not import"),
        (
            "execution.worker",
            "import importlib\nimportlib.import_module('driverun.cli')",
            "2: execution may not",
        ),
        ("cli.work", "from driverun.storage.local import LocalStore", "cli may not import"),
        ("errors", "from driverun.clock import Clock", "errors may not import driverun.clock.Clock"),
        ("storage.local", "import driverun", "as a whole"),
        ("storage.local", "import tenacity", "outside its door (storage.retrying)"),
        ("execution.worker", "def f():\n    import keras", "2: keras is imported outside"),
        ("training.entry", "import tensorflow as tf", "outside its door"),
        ("launchers.headless", "from google.colab import drive", "outside its door (launchers.colab"),
        ("launchers.colab", "from googleapiclient.discovery import build", "outside its door"),
        ("report.page", "import rich.table", "outside its door"),
        ("report.page", "import leftpad", "without a door"),
        ("report.page", "import google.cloud", "without a door"),
        ("gadgets.thing", "", "no place in MAY_IMPORT"),
        ("storage.utils", "", "a module named utils"),
        ("execution.worker", "import time\ntime.sleep(1)", "2: time.sleep"),
        ("execution.worker", "import time as t\nwait = t.sleep", "2: time.sleep"),
        ("execution.worker", "from time import monotonic, sleep", "1: time.sleep"),
        ("execution.worker", "try:\n    f()\nexcept BaseException:\n    pass", "3: catches BaseException"),
        ("execution.worker", "try:\n    f()\nexcept:\n    log()", "catches BaseException"),
        (
            "execution.worker",
            "try:\n    f()\nexcept (OSError, BaseException):\n    log()",
            "catches BaseException",
        ),
        ("execution.worker", "try:\n f()\nexcept BaseException:\n if x:\n  raise\n", "catches BaseException"),
        (
            "execution.worker",
            "def f():\n try:\n  g()\n except BaseException:\n  if x:\n   return\n  raise\n",
            "catches BaseException",
        ),
        ("execution.worker", "with contextlib.suppress(BaseException):\n    f()", "suppresses BaseException"),
    ],
)
def test_a_module_that_breaks_a_rule_is_caught(module: str, source: str, words: str) -> None:
    found = faults_in(module, source)
    assert len(found) == 1, found
    assert words in found[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "runs.state",
            "from driverun.errors import DriverunError\nfrom . import layout\nfrom .record import x",
        ),
        (
            "dispatch.claim",
            "from driverun.storage import base\nfrom driverun.storage.base import ObjectStore",
        ),
        ("checkpoints.commit", "from driverun.spool.snapshot import x"),
        ("training.keras_fit", "import keras\nimport tensorflow as tf\nfrom numpy.random import default_rng"),
        ("launchers.colab", "from google.colab import auth\nimport google.colab"),
        ("storage.drive.errors", "from googleapiclient.errors import HttpError"),
        ("report.page", "from driverun import __version__\nimport html, json"),
        ("clock", "import time\ntime.sleep(1)"),
        ("execution.worker", "import time\ntime.monotonic()"),
        ("execution.worker", "try:\n    f()\nexcept BaseException:\n    log()\n    raise"),
        ("training.entry", "import os\ntry:\n    f()\nexcept BaseException:\n    log()\n    os._exit(1)"),
        ("execution.run", "try:\n    f()\nexcept Exception:\n    log()"),
    ],
)
def test_what_is_allowed_passes(module: str, source: str) -> None:
    assert faults_in(module, source) == []


def test_a_relative_import_in_a_package_starts_at_the_package() -> None:
    assert faults_in("storage", "from .local import LocalStore", is_package=True) == []
    assert faults_in("storage", "from ..runs import layout", is_package=True) != []
    assert faults_in("__init__", "from .training.current import current_run") == []
