"""Commands of this tool that a message gives to paste: quoted as a shell takes them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace

from dws_on_csm.config.load import DEFAULT
from dws_on_csm.config.site import Site
from dws_on_csm.display.progress import fold
from dws_on_csm.model.events import Done, Event, Failure, Summary
from dws_on_csm.model.this_program import typed_name
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
        return _as_typed(_fab(options.host, options.task, *options.words, "--site", str(site.path), *switches))
    return shlex.join([program(), options.task, *options.words, *_selection(site), *switches])


def program() -> str:
    """The program whose commands a message gives, as it was typed: dws-on-csm, which works from any folder, else invoke."""
    name = typed_name()
    return "invoke" if name == "fab" else name


def repair(site: Site, host: str, step: str) -> str:
    """The command that repairs a stage or step on one host."""
    return _as_typed(_fab(host, "repair", step, *([] if site.path == DEFAULT else ["--site", str(site.path)])))


def _as_typed(command: str) -> str:
    """A command of invoke or fab, as the program that was typed takes it: dws-on-csm also has fab's look and repair, and calls the
    option --hosts. What is of fab alone stays."""
    if (name := program()) == "invoke":
        return command
    command = re.sub(r"^fab -H (\S+) (look|repair)\b", r"invoke \2 \1", command)
    if not command.startswith("invoke "):
        return command
    return name + command.removeprefix("invoke").replace(" --site ", " --hosts ")


def with_site(text: str, site: Site) -> str:
    """The text with the site file in each command of ours between backticks that names none, as the next command needs it; and
    each with the program that was typed. A command of ssh gets the ssh_config and the user of the site file: without them it would
    log in another way than this tool, or not at all."""

    def complete(command: re.Match[str]) -> str:
        option = "--hosts" if command[1] == "invoke" else "--site"
        words = command[0].strip("`")
        if option not in words and site.path != DEFAULT:
            words = f"{words} {option} {shlex.quote(str(site.path))}"
        return f"`{_as_typed(words)}`"

    return _SSH.sub(lambda command: f"`{_as_site_logs_in(command[1], site)}`", _OURS.sub(complete, text))


def _as_site_logs_in(command: str, site: Site) -> str:
    words = command.split(" ")
    users = {host.name: host.user for host in site.hosts()}
    user = next((users[word] for word in words if word in users), "")
    options = []
    if site.ssh.config and "-F" not in words:
        options += ["-F", shlex.quote(str(site.ssh.config))]
    if user and "-l" not in words:
        options += ["-l", user]
    return " ".join([*words[:1], *options, *words[1:]])


def completing(site: Site, emit: Callable[[Event], None]) -> Callable[[Event], None]:
    """A consumer of events that gives `emit` each one, the commands in its failures, note and message as `with_site` has them."""

    def complete(event: Event) -> None:
        if isinstance(event, Done):
            failures = tuple(_failure(failure, site) for failure in event.failures)
            event = replace(event, failures=failures, note=with_site(event.note, site))
        elif isinstance(event, Summary):
            event = replace(event, message=with_site(event.message, site))
        emit(event)

    return complete


def _failure(failure: Failure, site: Site) -> Failure:
    return replace(failure, meaning=with_site(failure.meaning, site), fix=with_site(failure.fix, site))


_OURS = re.compile(
    r"`(?:(invoke) (?:install|plan|verify|undeploy|workflows|logs|doctor|journal|rollback|certs|look|repair)"
    r"|fab -H \S+ (?:look|repair|logs))\b[^`]*`"
)
"""A command of ours that takes a site file, between backticks."""
_SSH = re.compile(r"`(ssh [^`]+)`")
"""A command of ssh, between backticks."""


def _fab(host: str, *words: str) -> str:
    return shlex.join(["fab", "-H", host, *words])


def _selection(site: Site) -> Sequence[str]:
    """The options that select the site file and the hosts of a run."""
    if site.limit is None:
        return ["--hosts", str(site.path)]
    nodes = fold(sorted(site.limit))
    return ["--hosts", nodes] if site.path == DEFAULT else ["--hosts", str(site.path), "--limit", nodes]
