"""When a job's runs are due, as a person writes it."""

from __future__ import annotations

import difflib
import enum
import functools
import hashlib
import json
import zoneinfo
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Annotated, Any

from cronsim import CronSim, CronSimError
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from driverun.spec.fields import enum_of

#: What may stand in place of the five fields, as Debian's cron has it.
PRESETS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIELDS = ("minute", "hour", "day of month", "month", "day of week")
_RANGES = ("0-59", "0-23", "1-31", "1-12 or JAN-DEC", "0-7 or SUN-SAT; 0 and 7 are Sunday")
_A_DAY = datetime(2000, 1, 1, tzinfo=UTC)  #: any will do to see whether a schedule ever comes
_CRON_PATTERN = r"^\s*(@[A-Za-z]+|[^\s@]\S*(\s+\S+){4})\s*$"
_UNTIL_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2}:[0-9]{2})?)?$"
_NO_PLACES = ("localtime", "posixrules", "Factory")  # names in the database that mean another thing elsewhere


class CatchUp(enum.Enum):
    """What becomes of due times at which nobody looked."""

    LATEST = "latest"  #: the newest of them gets its run
    ALL = "all"  #: each of them does, the oldest first
    NONE = "none"  #: none that is older than ten minutes


def five_fields(text: str) -> str:
    """What a cron expression or a preset stands for: minute, hour, day of month, month, day of week.

    Raises:
        ValueError: it is none, or it never comes; the message says which field, and what to write.
    """
    text = text.strip()
    if text.startswith("@"):
        if text.lower() == "@reboot":
            raise ValueError("@reboot means nothing here: a root does not boot. Write a time, such as @daily")
        if text.lower() not in PRESETS:
            near = difflib.get_close_matches(text.lower(), list(PRESETS), n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(PRESETS)}"
            raise ValueError(f"there is no preset {text[:40]!r}; {hint}")
        return PRESETS[text.lower()]
    parts = text.split()
    if len(parts) != 5:
        what = "six fields, of which one would be seconds" if len(parts) == 6 else f"{len(parts)} fields"
        raise ValueError(
            f"{text[:60]!r} has {what}; a schedule has five: {', '.join(_FIELDS)}. "
            'Every night at three is "0 3 * * *"'
        )
    for place, (part, name, values) in enumerate(zip(parts, _FIELDS, _RANGES, strict=True)):
        alone = " ".join(part if place == other else "*" for other in range(5))
        if not _is_cron(alone):
            raise ValueError(f"{part[:40]!r} is no {name} ({values}); write a number, *, */5, 1-5 or 1,15")
    expression = " ".join(parts)
    if not _is_cron(expression) or next(CronSim(expression, _A_DAY), None) is None:
        raise ValueError(
            f"{expression!r} never comes: no month of it has such a day ({parts[2]}). L is the last day of a month"
        )
    return expression


def _is_cron(expression: str) -> bool:
    try:
        CronSim(expression, _A_DAY)
    except (CronSimError, AssertionError, ValueError):
        return False
    return True


@functools.cache
def zone(name: str) -> tzinfo:
    """The time zone of this name.

    Raises:
        ValueError: there is none; the message has the nearest names, or says what is missing on this machine.
    """
    if name in ("UTC", "Etc/UTC"):
        return UTC
    try:
        if name and name not in _NO_PLACES:
            return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        pass
    known = sorted(zoneinfo.available_timezones().difference(_NO_PLACES))
    if not known:
        raise ValueError(
            f"this machine has no time zones, so {name!r} means nothing to it. pip install tzdata, or write UTC"
        )
    raise ValueError(f"there is no time zone {name[:60]!r}; {_nearest(name, known)}")


def _nearest(name: str, known: list[str]) -> str:
    wanted = name.strip().replace(" ", "_").lower()
    cities: dict[str, list[str]] = {}
    for each in known:
        cities.setdefault(each.rpartition("/")[2].lower(), []).append(each)
    by_lower = {each.lower(): each for each in known}
    if wanted in by_lower:
        return f"did you mean {by_lower[wanted]}?"
    near = [by_lower[each] for each in difflib.get_close_matches(wanted, list(by_lower), n=2, cutoff=0.7)]
    city = difflib.get_close_matches(wanted.rpartition("/")[2], list(cities), n=1, cutoff=0.7)
    near += [each for each in (cities[city[0]] if city else []) if each not in near]
    if near:
        return f"did you mean {' or '.join(near[:3])}?"
    return "write one by its place, such as Europe/Berlin, or UTC"


def _cron(text: str) -> str:
    five_fields(text)
    return text.strip()


def _zone(name: str) -> str:
    zone(name)
    return name


def _until(text: str) -> str:
    try:
        if len(text) > 10:
            datetime.fromisoformat(text)
        else:
            date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(
            f"{text[:40]!r} is no date and no time: write 2026-12-31, 2026-12-31T18:00 or 2026-12-31T18:00+01:00"
        ) from error
    return text


class ScheduleRules(BaseModel):
    """When runs of the job are due."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    cron: Annotated[
        str, AfterValidator(_cron), WithJsonSchema({"type": "string", "pattern": _CRON_PATTERN})
    ] = Field(
        description="Minute, hour, day of month, month and day of week as cron has them, or a preset: @hourly, @daily, "
        "@weekly, @monthly, @yearly.",
        examples=["0 3 * * *", "@daily"],
    )
    timezone: Annotated[str, AfterValidator(_zone)] = Field(
        default="UTC",
        description="Where these hours are those of the clock on the wall, by its name in the tz database.",
        examples=["Europe/Berlin"],
    )
    catch_up: Annotated[CatchUp, enum_of(CatchUp)] = Field(
        default=CatchUp.LATEST,
        description="What becomes of due times at which nobody looked: latest makes one run for the newest, all one "
        "for each, none only for one of the last ten minutes.",
        examples=["latest"],
    )
    until: (
        Annotated[str, AfterValidator(_until), WithJsonSchema({"type": "string", "pattern": _UNTIL_PATTERN})]
        | None
    ) = Field(
        default=None,
        description="The last day, or the last moment, at which a run may fall due; in the schedule's time zone.",
        examples=["2027-12-31", "2027-12-31T18:00"],
    )

    @model_validator(mode="before")
    @classmethod
    def _is_mapping(cls, written: Any) -> Any:
        """A cron expression by itself is the likeliest slip, so its answer is what to write, word for word."""
        if isinstance(written, str):
            try:
                five_fields(written)
            except ValueError:
                return written  # then it is told what it is not
            raise ValueError(f'the expression has a name here: schedule: {{cron: "{written.strip()}"}}')
        return written

    @field_validator("timezone", mode="before")
    @classmethod
    def _is_no_offset(cls, written: Any) -> Any:
        if isinstance(written, str) and written.strip().upper().removeprefix("UTC").startswith(("+", "-")):
            raise ValueError(
                f"{written!r} is an offset, which changes with the season; name a place, such as Europe/Berlin"
            )
        return written

    @property
    def expression(self) -> str:
        """The five fields."""
        return five_fields(self.cron)

    @property
    def zone(self) -> tzinfo:
        return zone(self.timezone)

    @property
    def until_at(self) -> datetime | None:
        """The last moment that counts, in UTC; None: there is none."""
        if self.until is None:
            return None
        if len(self.until) > 10:
            moment = datetime.fromisoformat(self.until)
            return (moment if moment.tzinfo is not None else moment.replace(tzinfo=self.zone)).astimezone(UTC)
        day_after = date.fromisoformat(self.until) + timedelta(days=1)
        midnight = datetime(day_after.year, day_after.month, day_after.day, tzinfo=self.zone)
        return midnight.astimezone(UTC) - timedelta(microseconds=1)

    @property
    def tag(self) -> str:
        """12 hex digits of what is written: another schedule has others."""
        written = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(written.encode()).hexdigest()[:12]
