"""Latency, bandwidth and writes a second, on a clock of the test's own."""

from __future__ import annotations

import pytest

from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import DriveEmulator
from driverun.testing.drive_emulator.pacing import Line, WriteLimit
from tests.drive_emulator.speaking import Speaker


def test_writes_pass_at_the_rate_with_a_reserve() -> None:
    clock = FakeClock()
    limit = WriteLimit(clock)

    def passed(account: str, tries: int) -> int:
        return sum(limit.admits(account, per_second=3, burst=10) for _ in range(tries))

    assert passed("a", 20) == 10
    assert passed("b", 5) == 5  # each account has its own
    clock.advance(seconds=1)
    assert passed("a", 20) == 3
    clock.advance(seconds=100)
    assert passed("a", 20) == 10
    assert all(limit.admits("a", per_second=0, burst=0) for _ in range(100))


def test_a_line_carries_so_many_bits_a_second() -> None:
    clock = FakeClock()
    line = Line(clock)
    line.carry(1_000_000, mbps=8)
    assert clock.monotonic() == pytest.approx(1.0)
    line.carry(500_000, mbps=8)
    assert clock.monotonic() == pytest.approx(1.5)
    line.carry(10**12, mbps=0)
    line.carry(0, mbps=8)
    assert clock.monotonic() == pytest.approx(1.5)


def test_too_many_writes_are_refused_and_reads_are_not(
    emulator: DriveEmulator, alice: Speaker, clock: FakeClock
) -> None:
    emulator.settings.writes_per_second = 3
    emulator.settings.write_burst = 2
    made = [alice.call("POST", "files", {}) for _ in range(3)]
    assert [one.status for one in made] == [200, 200, 403]
    assert made[2].reason == "userRateLimitExceeded"
    assert made[2].json["error"]["errors"][0]["domain"] == "usageLimits"
    assert all(alice.call("GET", "files").status == 200 for _ in range(10))
    clock.advance(seconds=0.34)
    assert alice.call("POST", "files", {}).status == 200
    assert len(emulator.files()) == 3


def test_every_call_takes_the_latency(emulator: DriveEmulator, alice: Speaker, clock: FakeClock) -> None:
    emulator.settings.latency_ms = 150
    for _ in range(4):
        alice.call("GET", "about")
    assert clock.monotonic() == pytest.approx(0.6)


def test_bytes_take_their_time_both_ways(emulator: DriveEmulator, alice: Speaker, clock: FakeClock) -> None:
    emulator.settings.bandwidth_mbps = 80
    made = alice.insert("a", bytes(10_000_000))
    up_s = clock.monotonic()
    assert up_s == pytest.approx(1.0, rel=0.01)
    alice.call("GET", f"files/{made['id']}", alt="media")
    assert clock.monotonic() - up_s == pytest.approx(1.0, rel=0.01)
