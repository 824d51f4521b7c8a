"""What a script's Python function can reach when it is called: state that outlives the call, the global generators.

Found by reading code, never by running it. What is in doubt counts as state: that costs time, not exactness.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import random
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

LIBRARIES = frozenset({"tensorflow", "keras", "numpy", "driverun", *sys.stdlib_module_names}) - {"__main__"}
MOST_OBJECTS = 500
MOST_ITEMS = 20  #: longer containers are data
RANDOM_SOURCES = (
    np.random.Generator,
    np.random.RandomState,
    np.random.BitGenerator,
    random.Random,
    types.GeneratorType,
    keras.random.SeedGenerator,
)
#: Naming one of these beside `random` means a generator of one's own.
OWN_GENERATORS = frozenset({"default_rng", "RandomState", "Generator", "Random", "SeedSequence"})
DRAWS = frozenset(name for module in (random, np.random) for name in dir(module) if name.islower())


@dataclass(slots=True)
class Reach:
    """The functions and objects that a call can get at, by the names that its code uses."""

    functions: list[types.FunctionType] = field(default_factory=list)
    objects: list[Any] = field(default_factory=list)
    names: set[str] = field(default_factory=set)


def reach_of(function: Any) -> Reach:
    """Follow closures, globals, defaults, and attributes whose names occur in code that was reached."""
    names: set[str] = set()
    while True:
        found = Reach(names=set(names))
        seen: set[int] = set()
        wanted = [function]
        while wanted and len(seen) < MOST_OBJECTS:
            value = wanted.pop()
            if id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, types.FunctionType):
                found.functions.append(value)
                for code in codes_of(value.__code__):
                    found.names |= {*code.co_names, *code.co_freevars}
            else:
                found.objects.append(value)
            wanted += _next_to(value, names)
        if found.names == names:
            return found
        names = found.names


def remembers(function: Any) -> bool:
    """Whether calling it may change what a later call gives: a generator of its own, a counter, a layer's seed."""
    reach = reach_of(function)
    if any(isinstance(value, RANDOM_SOURCES) or _has_seed_state(value) for value in reach.objects):
        return True
    return any(
        is_of_a_script(f) and any(_rebinds(code) for code in codes_of(f.__code__)) for f in reach.functions
    )


def draws_globally(function: Any) -> bool:
    """Whether calling it may draw from Python's or NumPy's global generator."""
    reach = reach_of(function)
    return any(_draws(f) for f in reach.functions if is_of_a_script(f)) or any(
        getattr(value, "__self__", None) in (random._inst, np.random.mtrand._rand)
        for value in reach.objects
        if isinstance(value, types.BuiltinMethodType | types.MethodType)
    )


def _draws(function: types.FunctionType) -> bool:
    for code in codes_of(function.__code__):
        names = set(code.co_names)
        if not names & DRAWS or names & OWN_GENERATORS:
            continue
        used = [function.__globals__.get(name) for name in globals_in(code)]
        if any(value is random or value is np.random for value in used):
            return True
        if "random" in names and (any(value is np for value in used) or _imports(code)):
            return True
    return False


def globals_in(code: types.CodeType) -> list[str]:
    """The global names that the code reads or assigns, in its order."""
    uses = ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL")
    return list(dict.fromkeys(str(i.argval) for i in dis.get_instructions(code) if i.opname in uses))


def _imports(code: types.CodeType) -> bool:
    return any(
        i.opname == "IMPORT_NAME" and i.argval in ("random", "numpy") for i in dis.get_instructions(code)
    )


def codes_of(code: types.CodeType) -> Iterator[types.CodeType]:
    """The code and every function written within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes_of(constant)


def is_of_a_script(value: Any) -> bool:
    """Whether a function or a class is part of a person's script, and not of a library."""
    name = getattr(value, "__module__", None) or ""
    if name.partition(".")[0] in LIBRARIES:
        return False
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    return "site-packages" not in file and "dist-packages" not in file


def _rebinds(code: types.CodeType) -> bool:
    """Whether the code assigns to names or attributes that may outlive the call."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR"):
            return True
        if instruction.opname == "STORE_DEREF" and instruction.argval in code.co_freevars:
            return True
    return False


def _has_seed_state(value: Any) -> bool:
    if isinstance(value, keras.layers.Layer):
        return any("seed_generator" in variable.path for variable in value.variables)
    return type(value).__module__.startswith("tensorflow") and type(value).__name__ == "Generator"


def _next_to(value: Any, names: set[str]) -> list[Any]:
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, types.FunctionType):
        return _next_to_function(value)
    if isinstance(value, list | tuple | set):
        return list(value) if len(value) <= MOST_ITEMS else []
    if isinstance(value, dict):
        return list(value.values()) if len(value) <= MOST_ITEMS else []
    if type(value).__name__ == "_GeneratorState":  # TensorFlow's own; what it holds beside is of passes begun
        return [getattr(value, "_generator", None)]
    if isinstance(value, type | types.ModuleType) or not is_of_a_script(type(value)):
        return []
    reached = [item for name, item in getattr(value, "__dict__", {}).items() if name in names]
    for kind in type(value).__mro__:
        if is_of_a_script(kind):
            reached += [
                f for name, f in vars(kind).items() if name in names or name in ("__call__", "__next__")
            ]
    return [item.fget if isinstance(item, property) else item for item in reached]


def _next_to_function(function: types.FunctionType) -> list[Any]:
    reached = list(function.__defaults__ or ())
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):
            reached.append(cell.cell_contents)
    if is_of_a_script(function):
        for code in codes_of(function.__code__):
            known = function.__globals__
            reached += [known[name] for name in globals_in(code) if name in known]
    return reached
