"""Commands of this tool that a message gives to paste: quoted as a shell takes them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace

from dws_on_csm.config.load import DEFAULT
from dws_on_csm.config.site import Site
from dws_on_csm.display.progress import fold
from dws_on_csm.model.events import Done, Event, Failure
from dws_on_csm.runner.options import Options


def again(options: Options, site: Site) -> str:
    """The command that runs the same again: with all options that were given, and on no other hosts."""
    given = {
        "--verify": options.verify and options.task == "install",
        "--plan": options.plan and options.task != "plan",
        "--prepare": options.prepare,
        "--yes": options.yes,
        "--json": options.json,
        "--diff": bool(options.diff),
    }
    switches = [name for name, on in given.items() if on]
    if options.host:
        return _fab(options.host, options.task, *options.words, "--site", str(site.path), *switches)
    return shlex.join(["invoke", options.task, *options.words, *_selection(site), *switches])


def repair(site: Site, host: str, step: str) -> str:
    """The command that repairs a stage or step on one host."""
    return _fab(host, "repair", step, *([] if site.path == DEFAULT else ["--site", str(site.path)]))


def with_site(text: str, site: Site) -> str:
    """The text with the site file in each command of ours between backticks that names none, as the next command needs it."""
    if site.path == DEFAULT:
        return text

    def complete(command: re.Match[str]) -> str:
        option = "--hosts" if command[1] == "invoke" else "--site"
        return command[0] if option in command[0] else f"{command[0][:-1]} {option} {shlex.quote(str(site.path))}`"

    return _OURS.sub(complete, text)


def completing(site: Site, emit: Callable[[Event], None]) -> Callable[[Event], None]:
    """A consumer of events that gives `emit` each one, with the site file in the commands of its failures."""

    def complete(event: Event) -> None:
        if isinstance(event, Done):
            event = replace(event, failures=tuple(_failure(failure, site) for failure in event.failures))
        emit(event)

    return complete


def _failure(failure: Failure, site: Site) -> Failure:
    return replace(failure, meaning=with_site(failure.meaning, site), fix=with_site(failure.fix, site))


_OURS = re.compile(
    r"`(?:(invoke) (?:install|plan|verify|undeploy|workflows|logs|doctor|journal|rollback|certs)"
    r"|fab -H \S+ (?:look|repair|logs))\b[^`]*`"
)
"""A command of ours that takes a site file, between backticks."""


def _fab(host: str, *words: str) -> str:
    return shlex.join(["fab", "-H", host, *words])


def _selection(site: Site) -> Sequence[str]:
    """The options that select the site file and the hosts of a run."""
    if site.limit is None:
        return ["--hosts", str(site.path)]
    nodes = fold(sorted(site.limit))
    return ["--hosts", nodes] if site.path == DEFAULT else ["--hosts", str(site.path), "--limit", nodes]
