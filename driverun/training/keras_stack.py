"""What bit-exactness depends on beneath a model: seeds, deterministic kernels, versions, devices."""

from __future__ import annotations

import os
import platform
import random
import sys
from pathlib import Path
from typing import Any

import keras

from driverun.spool.events import EventKind
from driverun.training.keras_state import value_of
from driverun.training.session import TrainingSession

#: Processor features that make TensorFlow and its libraries choose other kernels, whose last bits differ.
CPU_FEATURES = ("avx", "avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "fma", "asimd", "sve")


def prepare(session: TrainingSession) -> None:
    """Seed Keras, switch deterministic kernels on where they are wanted, and record the stack."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        _grow_memory(session)
    before = random.getstate()
    keras.utils.set_random_seed(session.request.seed)
    random.setstate(before)  # Python's and NumPy's generators were seeded when the script began
    if backend != "tensorflow":
        session.gap(f"Keras' {backend} backend is not resumed exactly by this version")
    gpus = _gpus() if backend == "tensorflow" else []
    wanted = session.request.deterministic
    session.deterministic = not gpus if wanted is None else wanted
    if session.deterministic and backend == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    if not session.deterministic:
        where = "a GPU" if gpus else "this machine"
        session.step_exact(f"kernels on {where} are not deterministic; `deterministic: true` makes them so")
    session.stack = stack(backend, gpus)
    session.events.write(
        EventKind.STARTED, environment={**session.stack, "deterministic": session.deterministic}
    )


def reseed(seed: int) -> None:
    """Give TensorFlow's hidden generators a state that depends on `seed` alone."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.random.set_seed(seed)


def _grow_memory(session: TrainingSession) -> None:
    """Have TensorFlow take memory of each GPU as it needs it, not all of it at once; before anything uses one."""
    import tensorflow as tf

    try:
        for device in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(device, True)
    except (RuntimeError, ValueError) as exc:  # the script has used a GPU before, or set up a part of it
        session.say(f"the GPU's memory was set up by the script before, and stays so: {exc}")


def _gpus() -> list[str]:
    """Name and compute capability of each GPU that TensorFlow uses, as in "Tesla T4 (7.5)"."""
    import tensorflow as tf

    names = []
    for device in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(device)
        name = str(details.get("device_name", device.name))
        capability = details.get("compute_capability")
        names.append(f"{name} ({'.'.join(map(str, capability))})" if capability else name)
    return names


def stack(backend: str, gpus: list[str]) -> dict[str, Any]:
    """The parts of the stack that a bit may depend on, as JSON."""
    import numpy as np

    versions = {"python": platform.python_version(), "keras": keras.__version__, "numpy": np.__version__}
    library = sys.modules.get({"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}[backend])
    if library is not None:
        versions[backend] = library.__version__
    return {
        **versions,
        "backend": backend,
        "machine": platform.machine(),
        "cpu_features": " ".join(_cpu_features()),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpus": ", ".join(gpus) or "none",
        "dtype_policy": keras.config.dtype_policy().name,
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", ""),
    }


def _cpu_features() -> list[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    for line in text.splitlines():
        if line.startswith(("flags", "Features")):
            present = set(line.partition(":")[2].split())
            return [name for name in CPU_FEATURES if name in present]
    return []


def hidden_random_state() -> dict[str, Any]:
    """The state of the generators that eager operations without a seed draw from, as JSON."""
    state: dict[str, Any] = {}
    shared = keras.src.backend.common.global_state.get_global_attribute("global_seed_generator")
    if shared is not None:
        state["keras"] = [int(word) for word in value_of(shared.state)]
    context = _eager_context()
    if context is not None:
        version, numbers, gauss = context._rng.getstate()
        state["tensorflow"] = {"seed": context._seed, "numbers": [version, list(numbers), gauss]}
    return state


def restore_hidden_random_state(state: dict[str, Any]) -> None:
    """Put them where `hidden_random_state` found them."""
    if "keras" in state:
        keras.src.random.seed_generator.global_seed_generator().state.assign(state["keras"])
    if "tensorflow" in state:
        import tensorflow as tf

        tf.random.set_seed(state["tensorflow"]["seed"])
        version, numbers, gauss = state["tensorflow"]["numbers"]
        context = _eager_context()
        if context is not None:
            context._rng.setstate((version, tuple(numbers), gauss))


def _eager_context() -> Any:
    """TensorFlow's own context, which no public name leads to; None where it is not as known."""
    if keras.backend.backend() != "tensorflow":
        return None
    from tensorflow.python.eager import context

    found = context.context()
    return found if hasattr(found, "_rng") and getattr(found, "_seed", None) is not None else None
