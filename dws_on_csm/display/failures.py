"""A failure for people: where, which command, its exit code and output, what it means, and the fix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from dws_on_csm.display.progress import fold
from dws_on_csm.display.style import Row, duration, sign
from dws_on_csm.model.events import Done, Failure
from dws_on_csm.model.printable import escaped, plain_line

_LABEL = 11


def block(done: Done, hosts: Sequence[str] = ()) -> list[Row]:
    """The failure (or refusal) `done` as rows; `hosts` are all hosts with the same result."""
    where = f"{fold(hosts or [done.host])}: {done.stage}.{done.step}"
    head: Row = [sign(done.outcome), (f" {where} ", "bold"), (done.outcome, sign(done.outcome)[1])]
    if done.seconds >= 0.05:
        head.append((f" after {duration(done.seconds)}", "dim"))
    return [head, *(row for failure in done.failures for row in _failure(failure, done.outcome == "refused"))]


def _failure(failure: Failure, refused: bool) -> Iterator[Row]:
    yield from _labelled("finding" if refused else "command", failure.command.splitlines())
    if failure.code is not None:
        yield from _labelled("exit code", [str(failure.code)])
    yield from _labelled("output", [plain_line(line) for line in failure.tail], "│ ")
    yield from _labelled("means", failure.meaning.splitlines())
    yield from _labelled("fix", failure.fix.splitlines(), style="bold")


def _labelled(label: str, lines: Iterable[str], prefix: str = "", style: str = "") -> Iterator[Row]:
    for number, line in enumerate(lines):
        name = f"    {label if number == 0 else '':<{_LABEL - 1}} "
        yield [(name, "dim"), (prefix, "dim"), (escaped(line).expandtabs(4), style)]


def alike(results: Iterable[Done]) -> list[tuple[Done, list[str]]]:
    """Each distinct result once, with its hosts and the longest time it took."""
    groups: dict[object, list[Done]] = {}
    for done in results:
        groups.setdefault((done.stage, done.step, done.outcome, done.failures, done.note), []).append(done)
    return [
        (replace(group[0], seconds=max(done.seconds for done in group)), [done.host for done in group])
        for group in groups.values()
    ]
