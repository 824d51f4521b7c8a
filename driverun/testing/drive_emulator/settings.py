"""How the emulator behaves; everything here may change while it runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class EmulatorSettings:
    """What the flags of `driverun dev-drive` set, and the admin path changes."""

    latency_ms: float = 0.0  #: added to every call
    bandwidth_mbps: float = 0.0  #: million bits a second each way, shared by all; 0: no limit
    writes_per_second: float = 0.0  #: of each account; what is beyond gets 403; 0: no limit
    write_burst: float = 10.0  #: so many writes pass at once before the limit counts
    listing_lag_s: float = 0.0  #: until `files.list` and `changes.list` show what happened
    quota_gb: float = 15.0  #: of each account, in 10^9 bytes; 0: no limit
    fault_rate: float = 0.0  #: the probability that a call meets a fault
    hang_s: float = 5.0  #: how long a hang lasts, of the machine's own seconds
    token_lifetime_s: float = 3599.0  #: of the access tokens that are issued
    session_lifetime_s: float = 7 * 24 * 3600.0  #: of a resumable upload

    def change(self, name: str, value: float) -> None:
        """Set one of them.

        Raises:
            ValueError: there is none of that name, or the value is no number from 0 on.
        """
        if name not in self.__dataclass_fields__:
            raise ValueError(f"{name} is no setting: {', '.join(self.__dataclass_fields__)}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise ValueError(f"{name} is a number from 0 on, not {value!r}")
        setattr(self, name, float(value))
