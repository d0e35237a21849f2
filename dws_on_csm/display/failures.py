"""A failure for people: where, which command, its exit code and output, what it means, and the fix."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from dws_on_csm.display.progress import fold
from dws_on_csm.display.style import Row, duration, sign
from dws_on_csm.model.events import Done, Failure
from dws_on_csm.model.printable import escaped, plain_line

_LABEL = 11
_HOST = "\0"
"""Stands in a text for the host's name: no text has this character."""


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
    """Each distinct result once, with its hosts and the longest time it took. Results whose words differ in the host's name alone
    count as one; the output of commands has to be equal, since it is shown as it was."""
    groups: dict[object, list[Done]] = {}
    for done in results:
        words = (_with_words(failure, done.host, without_host) for failure in done.failures)
        key = (done.stage, done.step, done.outcome, tuple(words), without_host(done.note, done.host))
        groups.setdefault(key, []).append(done)
    return [(_together(group), [done.host for done in group]) for group in groups.values()]


def _together(group: Sequence[Done]) -> Done:
    """One result in place of the same one of several hosts, with words and commands for all of them."""
    first, hosts = group[0], [done.host for done in group]

    def of_all(text: str, host: str) -> str:
        return for_each(without_host(text, host), hosts)

    failures = tuple(_with_words(failure, first.host, of_all) for failure in first.failures)
    note = of_all(first.note, first.host)
    return replace(first, seconds=max(done.seconds for done in group), failures=failures, note=note)


def _with_words(failure: Failure, host: str, change: Callable[[str, str], str]) -> Failure:
    """The failure with its own words changed by `change`, which takes a text and the host."""
    command, meaning, fix = (change(text, host) for text in (failure.command, failure.meaning, failure.fix))
    return replace(failure, command=command, meaning=meaning, fix=fix)


def without_host(text: str, host: str) -> str:
    """The text with a mark in place of the host's name, where that is a word of its own."""
    return re.sub(rf"(?<![\w.-]){re.escape(host)}(?![\w-]|\.\w)", _HOST, text)


_LISTED = 8
"""So many hosts are listed in a loop; more are written as bash's braces, which a line has room for."""


def _words(hosts: Sequence[str]) -> str:
    """These hosts as words of a shell; many of them with braces: nid{000001..000004}."""
    if len(hosts) <= _LISTED or not all(re.fullmatch(r"[\w.-]+", host, re.ASCII) for host in hosts):
        return shlex.join(hosts)
    separate = re.sub(r",(?![^\[]*\])", " ", fold(hosts))
    return re.sub(r"\[([^\]]*)\]", _braces, separate)


def _braces(ranges: re.Match[str]) -> str:
    parts = [re.sub(r"(\d+)-(\d+)", r"{\1..\2}", part) for part in ranges[1].split(",")]
    return parts[0] if len(parts) == 1 else f"{{{','.join(parts)}}}"


def for_each(text: str, hosts: Sequence[str]) -> str:
    """A text of `without_host` for these hosts. For several, a command between backticks becomes a loop of the shell over them, so
    that it can be pasted."""
    if len(hosts) == 1:
        return text.replace(_HOST, hosts[0])
    loop = f"for host in {_words(hosts)}; do"

    def repeated(command: re.Match[str]) -> str:
        words = command[1].replace(_HOST, "$host")
        return f"`{loop} {words}; done`" if words != command[1] else command[0]

    return re.sub(r"`([^`]*)`", repeated, text).replace(_HOST, "each of them")
