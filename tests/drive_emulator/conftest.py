from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import DriveEmulator
from driverun.testing.drive_emulator.contract import drive_v2
from driverun.testing.drive_emulator.exchange import Outcome, Request
from tests.drive_emulator.schemas import problems, problems_of_error
from tests.drive_emulator.speaking import BOB, Speaker


class CheckedEmulator(DriveEmulator):
    """Holds every answer that it gives against the schemas of the discovery document.

    Attributes:
        breaches: what was wrong with answers.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.breaches: list[str] = []
        super().__init__(*args, **kwargs)

    def handle(self, request: Request) -> Outcome:
        before = len(self.requests)
        outcome = super().handle(request)
        has_fault = any(record.fault for record in list(self.requests)[before:])
        if outcome.answer is not None and outcome.answer.content is None and not has_fault:
            self._check(request, outcome)
        return outcome

    def _check(self, request: Request, outcome: Outcome) -> None:
        answer = outcome.answer
        assert answer is not None
        match = drive_v2().match(request.verb, request.path)
        if match is None:
            return
        found: list[str] = []
        kind = answer.headers.get("Content-Type", "")
        if answer.status >= 400 and answer.status not in (416, 499):
            found = problems_of_error(answer.body)
        elif answer.status == 200 and kind.startswith("application/json"):
            schema = match.method.response_schema
            document = json.loads(answer.body)
            found = ["an answer, where none is due"] if schema is None else problems(schema, document)
            if not request.parameter("fields") and "kind" not in document:
                found.append("no kind")
        elif answer.status == 204 and match.method.response_schema is not None:
            found = ["no answer, where one is due"]
        self.breaches += [f"{match.method.id}: {one}" for one in found]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def start(tmp_path: Path, clock: FakeClock) -> Iterator[Callable[..., CheckedEmulator]]:
    """Starts emulators in the folder of the test; what they answered is judged at its end."""
    started: list[CheckedEmulator] = []

    def starting(**kwargs: Any) -> CheckedEmulator:
        emulator = CheckedEmulator(tmp_path / "drive", **{"clock": clock, **kwargs})
        emulator.start()
        started.append(emulator)
        return emulator

    yield starting
    for emulator in started:
        emulator.close()
    assert [one for emulator in started for one in emulator.breaches] == []


@pytest.fixture
def emulator(start: Callable[..., CheckedEmulator]) -> CheckedEmulator:
    return start()


@pytest.fixture
def alice(emulator: DriveEmulator) -> Iterator[Speaker]:
    speaker = Speaker(emulator.url)
    yield speaker
    speaker.close()


@pytest.fixture
def bob(emulator: DriveEmulator) -> Iterator[Speaker]:
    speaker = Speaker(emulator.url, BOB)
    yield speaker
    speaker.close()
