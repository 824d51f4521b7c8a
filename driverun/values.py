"""Values of which there may be a hundred thousand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

__all__ = ["frozen_value"]

if TYPE_CHECKING:
    from dataclasses import dataclass as frozen_value
else:

    def frozen_value(*, frozen: bool, **options: bool) -> Callable[[type[Any]], type[Any]]:
        """As `dataclass`, but it is the type checker alone that refuses to change one.

        Python's frozen classes set every field by a call of `object.__setattr__`: a value of seventeen fields takes
        three times as long to make. These compare, hash and print as frozen ones.
        """
        assert frozen, "what may be changed is no value"
        return dataclasses.dataclass(unsafe_hash=True, **options)
