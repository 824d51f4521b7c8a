"""Where the values of secrets come from: asked of each place in turn, kept in memory, written nowhere."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from driverun.clock import Clock, SystemClock
from driverun.dispatch.lacks import Lack
from driverun.runs.state import WaitingFor
from driverun.spec.model import JobSpec, Secret
from driverun.spool.masking import refusal

PREFIX = "DRIVERUN_SECRET_"
LOOK_AGAIN_S = 30.0  #: for a secret that was not there; Colab may take ten seconds to say so


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one place says of one secret."""

    value: str | None = field(default=None, repr=False)
    why: str = ""  #: it has none to give, where that is worth telling; one clause


class SecretSource(Protocol):
    """One place that keeps secrets."""

    @property
    def advice(self) -> str:
        """Where a person puts one, as in "NAME into the environment"; `{name}` stands for its name."""

    def look_up(self, name: str) -> Answer:
        """The value, if it is there and may be had. Never raises for a place that does not answer."""


class EnvironmentSecrets:
    """Variables of the runner itself, such as DRIVERUN_SECRET_HF_TOKEN, else HF_TOKEN."""

    advice = "DRIVERUN_SECRET_{variable} in the worker's environment"

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def look_up(self, name: str) -> Answer:
        for variable in (f"{PREFIX}{variable_of(name)}", name):
            if value := self._environment.get(variable):
                return Answer(value=value)
        return Answer()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """The secrets of one job, as far as they are to be had."""

    values: Mapping[str, str] = field(
        default_factory=dict, repr=False
    )  #: by the variable as which the job sees each
    lacks: tuple[str, ...] = ()  #: one clause for each that is not there, with where to put it


class Secrets:
    """All places of this worker, in the order in which they are asked."""

    def __init__(self, sources: Sequence[SecretSource] = (), *, clock: Clock | None = None) -> None:
        self._sources = tuple(sources)
        self._clock = clock or SystemClock()
        self._found: dict[str, str] = {}
        self._missing: dict[
            str, tuple[float, str]
        ] = {}  # by name: when it was looked for, why it is not there
        self._wanted: set[str] = set()

    def gather(self, wanted: Iterable[Secret]) -> Gathered:
        """The values that these secrets have now. What was found stays; the rest is asked for again after a while."""
        values: dict[str, str] = {}
        lacks: list[str] = []
        for secret in wanted:
            value, why = self._look_up(secret.name)
            if value is None:
                lacks.append(why)
            else:
                values[secret.seen_as] = value
        return Gathered(values=values, lacks=tuple(lacks))

    def note(self, specs: Iterable[JobSpec]) -> None:
        """Remember what these jobs have as secrets, for `foreign_to`."""
        for spec in specs:
            for secret in spec.secrets:
                self._wanted.update((secret.name, secret.seen_as))

    def foreign_to(self, own: Collection[str]) -> frozenset[str]:
        """Variables of the runner that some job has as a secret, and the job whose variables are `own` has not."""
        return frozenset(self._wanted) - frozenset(own)

    def _look_up(self, name: str) -> tuple[str | None, str]:
        if name in self._found:
            return self._found[name], ""
        now_s = self._clock.monotonic()
        looked_s, why = self._missing.get(name, (None, ""))
        if looked_s is not None and now_s - looked_s < LOOK_AGAIN_S:
            return None, why
        reasons = []
        for source in self._sources:
            answer = source.look_up(name)
            if answer.value is not None:
                unfit = refusal(answer.value)
                if unfit is None:
                    self._found[name] = answer.value
                    self._missing.pop(name, None)
                    return answer.value, ""
                reasons.append(unfit)
            elif answer.why:
                reasons.append(answer.why)
        why = self._why(name, reasons)
        self._missing[name] = (self._clock.monotonic(), why)
        return None, why

    def _why(self, name: str, reasons: Sequence[str]) -> str:
        places = [source.advice.format(name=name, variable=variable_of(name)) for source in self._sources]
        advice = f"Put it there: {', or '.join(places)}" if places else "This worker has no place for secrets"
        return f"the secret {name} {'; '.join(reasons) or 'is nowhere to be found'}. {advice}"


def lacking_secrets(secrets: Secrets, spec: JobSpec) -> tuple[Lack, ...]:
    """Why the job cannot be taken up by a worker that has these secrets; empty if it can."""
    lacks = secrets.gather(spec.secrets).lacks
    return (Lack(waiting_for=WaitingFor.SECRET, text="; ".join(lacks)),) if lacks else ()


def variable_of(name: str) -> str:
    """The end of the environment variable for the secret of this name."""
    return re.sub(r"[^A-Za-z0-9_]", "_", name)
