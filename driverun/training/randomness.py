"""Seeds that are pure functions of the job's seed, with the host's random state as values.

NumPy's global generator is touched only where the script has imported NumPy.
"""

from __future__ import annotations

import base64
import hashlib
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def derived_seed(seed: int, *words: object) -> int:
    """A seed, 0 to 2**31 - 1, that depends on nothing but the arguments."""
    text = "/".join([str(seed), *(str(word) for word in words)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") & 0x7FFFFFFF


def host_random_state() -> dict[str, Any]:
    """The state of Python's and NumPy's global generators, as JSON."""
    version, numbers, gauss = random.getstate()
    packed = b"".join(number.to_bytes(4, "little") for number in numbers)
    state: dict[str, Any] = {
        "python": {"version": version, "numbers": base64.b64encode(packed).decode(), "gauss": gauss}
    }
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        name, keys, position, has_gauss, cached = numpy.random.get_state()
        state["numpy"] = {
            "name": str(name),
            "keys": base64.b64encode(keys.astype("<u4").tobytes()).decode(),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        }
    return state


def restore_host_random_state(state: dict[str, Any]) -> None:
    """Put the generators where `host_random_state` found them."""
    python = state["python"]
    packed = base64.b64decode(python["numbers"])
    numbers = tuple(int.from_bytes(packed[at : at + 4], "little") for at in range(0, len(packed), 4))
    random.setstate((python["version"], numbers, python["gauss"]))
    if "numpy" in state:
        import numpy as np

        numpy = state["numpy"]
        keys = np.frombuffer(base64.b64decode(numpy["keys"]), dtype="<u4").astype(np.uint32)
        np.random.set_state((numpy["name"], keys, numpy["position"], numpy["has_gauss"], numpy["cached"]))


@contextmanager
def host_random_seeded(seed: int) -> Iterator[None]:
    """Run a block with both generators freshly seeded, then put them back."""
    before = host_random_state()
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed)
    try:
        yield
    finally:
        restore_host_random_state(before)
