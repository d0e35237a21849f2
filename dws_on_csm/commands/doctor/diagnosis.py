"""A diagnosis as data: what is wrong and where, what could not be seen; and the same as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dws_on_csm.model.step import Finding


@dataclass(frozen=True)
class Told:
    """A finding and where it was made."""

    host: str
    finding: Finding


@dataclass(frozen=True)
class Unseen:
    """What nobody could look at or judge, where, and why."""

    host: str
    step: str
    why: str


@dataclass(frozen=True)
class Diagnosis:
    """All that is wrong; what the site accepts by name; what could not be seen; what else there is to say."""

    found: tuple[Told, ...]
    accepted: tuple[Told, ...]
    unseen: tuple[Unseen, ...]
    notes: tuple[str, ...]
    looked: int


def records(diagnosis: Diagnosis) -> Iterator[dict[str, object]]:
    """The diagnosis as JSON objects: findings, what could not be seen, a summary."""
    for accepted, some in ((False, diagnosis.found), (True, diagnosis.accepted)):
        for one in some:
            told = {"name": one.finding.name, "text": one.finding.text, "fix": one.finding.fix}
            yield {"event": "finding", "host": one.host, **told, "accepted": accepted}
    for unseen in diagnosis.unseen:
        yield {"event": "unseen", "host": unseen.host, "step": unseen.step, "why": unseen.why}
    counts = {"findings": len(diagnosis.found), "accepted": len(diagnosis.accepted), "unseen": len(diagnosis.unseen)}
    yield {"event": "summary", "exit": 1 if diagnosis.found else 0, **counts, "looked": diagnosis.looked}
