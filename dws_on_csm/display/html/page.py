"""A run as one HTML page that needs no other file: result, failures, timeline, proof, steps. Its form is templates/report.html."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from dws_on_csm.display import tables
from dws_on_csm.display.failures import alike
from dws_on_csm.display.html.timeline import INSTANT, timeline
from dws_on_csm.display.progress import Progress, StageProgress, fold, take
from dws_on_csm.display.style import SIGNS, duration, plural, result
from dws_on_csm.model import render as templates
from dws_on_csm.model.events import OUTCOMES, Done, Event, Failure, Opened, Outcome, Summary
from dws_on_csm.model.printable import escaped, plain_line
from dws_on_csm.model.stage_names import PROOFS

if TYPE_CHECKING:
    from jinja2 import Template

LONG = 14
"""Lines of a difference above which it is folded."""


def render(events: Sequence[Event]) -> str:
    """The page of the run with these events, in ASCII; of an interrupted run it has what is known."""
    progress = Progress()
    for event in events:
        take(progress, event, 0.0)
    opened = next((event for event in events if isinstance(event, Opened)), None)
    page = _template().render(
        progress=progress,
        summary=progress.summary,
        facts=_facts(progress),
        result=_result(progress.summary),
        counts={name: sum(stage.counts[name] for stage in progress.stages.values()) for name in OUTCOMES},
        failures=alike(done for stage in progress.stages.values() for done in stage.bad),
        timeline=timeline(progress, events),
        proof=_proof(progress),
        stages=[stage for stage in progress.stages.values() if stage.results],
        roles={role: fold(hosts) for role, hosts in opened.hosts.items() if hosts} if opened else {},
    )
    return page.encode("ascii", "xmlcharrefreplace").decode()


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined  # late: a run needs it only at its end
    from markupsafe import Markup

    def printable(value: object) -> object:
        """A value without control characters; markup of the template's own macros stays."""
        return value if isinstance(value, Markup) else escaped(str(value))

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=printable, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(_HELPERS)
    return environment.from_string(templates.read("report.html"))


def _facts(progress: Progress) -> dict[str, object]:
    """What the head of the page says of the run."""
    began = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(progress.began))
    facts: dict[str, object] = {"Run": progress.run, "Began": began, "Hosts": progress.hosts}
    if end := progress.summary:
        facts |= {"Took": duration(end.seconds), "Connections": end.connections, "Commands": end.commands}
        facts["Exit code"] = end.exit
    return facts


def _result(end: Summary | None) -> tuple[Outcome, str]:
    """The run's result: the outcome whose colour it has, and its words after that one's sign."""
    if end is None:
        return "unknown", "… interrupted"
    outcome, words = result(end.exit)
    return outcome, f"{SIGNS[outcome]} {words}"


def _proof(progress: Progress) -> dict[str, Any]:
    """What the stages that prove something reported: their steps, and the tables of what they measured."""
    stages = [progress.stages[name] for name in PROOFS if name in progress.stages]
    done = [step for stage in stages for step in stage.done if step.outcome in ("ok", "changed", "failed")]
    return {"steps": [step for step in done if step.note or step.diff], "tables": tables.merged(done)}


def _details(failure: Failure, refused: bool) -> list[tuple[str, str, Sequence[str]]]:
    """What is known of a failure: a label, the element that shows it, and its lines."""
    rows = [
        ("Finding" if refused else "Command", "code", failure.command.splitlines()),
        ("Exit code", "span", [str(failure.code)] if failure.code is not None else []),
        ("Output", "pre", [plain_line(line) for line in failure.tail]),
        ("Means", "p", failure.meaning.splitlines()),
        ("Fix", "p", failure.fix.splitlines()),
    ]
    return [row for row in rows if row[2]]


def _diff_lines(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each line of a difference with the element that shows it."""
    names = {"+": "ins", "-": "del", "@": "em"}
    return ((names.get(line[:1], "span"), line) for line in lines)


def _diff_size(lines: Sequence[str]) -> str:
    plus, minus = (sum(line.startswith(sign) for line in lines) for sign in "+-")
    return f"+{plus} -{minus} lines"


def _noteworthy(stage: StageProgress) -> list[list[Done]]:
    """The results that are not just ok, those with the same result on several hosts together."""
    groups: dict[object, list[Done]] = {}
    for done in stage.done:
        if done.outcome != "ok" or done.note:
            groups.setdefault((done.step, done.outcome, done.diff, done.note, done.failures), []).append(done)
    return list(groups.values())


def _unchanged(stage: StageProgress) -> dict[str, list[str]]:
    """Step -> the hosts on which it was correct already."""
    hosts: dict[str, list[str]] = {}
    for done in stage.done:
        if done.outcome == "ok" and not done.note:
            hosts.setdefault(done.step, []).append(done.host)
    return hosts


def _took(group: Sequence[Done]) -> str:
    longest = max(done.seconds for done in group)
    return duration(longest) if longest >= INSTANT else ""


_HELPERS: dict[str, Any] = {
    "signs": SIGNS,
    "gap": tables.GAP,
    "long": LONG,
    "fold": fold,
    "plural": plural,
    "details": _details,
    "diff_lines": _diff_lines,
    "diff_size": _diff_size,
    "noteworthy": _noteworthy,
    "unchanged": _unchanged,
    "took": _took,
}
