"""What goes wrong with VMs and with the command, and when."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self


class Sight(enum.Enum):
    """What `colab exec` shows of what it started."""

    FAITHFUL = "faithful"  #: everything, to its end
    LIES = "lies"  #: nothing more, and ends with 0, though all is not over
    LOSES = "loses"  #: says that the session is lost, forgets it, and ends with 1; the VM goes on
    HANGS = "hangs"  #: nothing more, and never ends


@dataclass(frozen=True, slots=True, kw_only=True)
class MachinePlan:
    """One VM. Events are counted in checkpoints on the root since the VM began to execute."""

    power_cut_after: int | None = None  #: the VM is gone, with its disk
    kernel_dies_after: int | None = None  #: the kernel is gone; the VM stays, and costs
    sight: Sight = Sight.FAITHFUL
    sight_until: int = 0  #: so long all is shown, whatever `sight` is


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudPlan:
    """One account."""

    balance: float = 100.0
    rate_per_hour: float = 1.76  #: of each VM
    refusals: Mapping[str, int] = field(default_factory=dict)  #: GPU -> how often it is refused at first
    not_entitled: tuple[str, ...] = ()
    machines: tuple[MachinePlan, ...] = ()  #: by order of creation; those after them are faultless
    signed_out_from: tuple[str, int] | None = None  #: from that call of that command on, counted from 1

    def to_json(self) -> str:
        return json.dumps(
            {
                "balance": self.balance,
                "rate_per_hour": self.rate_per_hour,
                "refusals": dict(self.refusals),
                "not_entitled": self.not_entitled,
                "signed_out_from": self.signed_out_from,
                "machines": [
                    {
                        "power_cut_after": each.power_cut_after,
                        "kernel_dies_after": each.kernel_dies_after,
                        "sight": each.sight.value,
                        "sight_until": each.sight_until,
                    }
                    for each in self.machines
                ],
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        given: dict[str, Any] = json.loads(text)
        machines = [MachinePlan(**{**each, "sight": Sight(each["sight"])}) for each in given.pop("machines")]
        signed_out = given.pop("signed_out_from")
        return cls(
            **{**given, "not_entitled": tuple(given["not_entitled"])},
            machines=tuple(machines),
            signed_out_from=(signed_out[0], signed_out[1]) if signed_out is not None else None,
        )

    def machine(self, number: int) -> MachinePlan:
        """The plan of the VM that was made as that one, from 0."""
        return self.machines[number] if number < len(self.machines) else MachinePlan()
