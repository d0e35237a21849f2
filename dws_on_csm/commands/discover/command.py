"""`invoke discover`: look at a site through its master, and write the site file. It changes nothing on any host."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dws_on_csm.commands import part_file
from dws_on_csm.commands.discover import cluster, difference, hosts, master, page, proposal, slurm
from dws_on_csm.commands.discover.cluster import PodSlurm
from dws_on_csm.commands.discover.hosts import HostSlurm, refusal_text
from dws_on_csm.commands.discover.login import Login, Reached, provisional, reach
from dws_on_csm.commands.discover.page import Value
from dws_on_csm.commands.discover.proposal import Node, Seen
from dws_on_csm.config.load import ROOT, SCHEMA, load
from dws_on_csm.config.nodeset import did_you_mean, expand
from dws_on_csm.config.site import Host, Site
from dws_on_csm.config.yaml_file import SiteError, relative
from dws_on_csm.display import console
from dws_on_csm.display.paint import printed
from dws_on_csm.display.style import Row, changed, plural
from dws_on_csm.model.errors import READ_ERRORS, error_text
from dws_on_csm.model.exit_codes import CHANGES, CONVERGED, FAILED, REFUSED, USAGE
from dws_on_csm.model.step import Refused
from dws_on_csm.model.this_program import typed_name
from dws_on_csm.runner.connections import pod_session

MASTER = "ncn-m001"
"""The master of a site whose name is not given: CSM's name for the first one."""

_NODE = r"""
if [ -f "$file" ]; then printf 'kind=%s\n' "$(stat -L -f -c %T -- "$file" | tr -d '\n')"; fi
"""


@dataclass(frozen=True)
class Options:
    """What was typed; "": nothing. `diff`: the site file to compare with; nothing is written then."""

    master: str = ""
    out: str = ""
    diff: str = ""
    cluster: str = ""
    controllers: str = ""
    user: str = ""
    sudo: bool = False
    ssh_config: str = ""
    json: bool = False


class Several(Exception):
    """The site has several Slurms, and none was chosen, or one that is not there."""


def discover(options: Options) -> int:
    """Look at the site and write its file, or compare it with one. The exit code."""
    try:
        path = _path(options)
        login = Login(config_value(options, path), options.user, options.sudo)
        extra = expand(options.controllers) if options.controllers else ()
    except ValueError as error:
        console.note(error)
        return USAGE
    if not options.diff and os.path.lexists(path):
        name = relative(path)
        console.note(
            f"{name} exists, and nothing is overwritten. Add --out FILE to write another file, or "
            f"--diff {shlex.quote(name)} to see what was found otherwise."
        )
        return REFUSED
    try:
        seen = look_at_site(options, path, login, extra)
    except Several as error:
        console.note(error)
        return REFUSED
    except READ_ERRORS as error:
        fix = getattr(error, "fix", "")
        console.note(error_text(error), *([f"Fix: {fix}"] if fix else []))
        return FAILED
    except SiteError as error:
        console.note(error)
        return USAGE
    return _end(options, path, seen)


def _path(options: Options) -> Path:
    """Where the site file is, or would be: site.yaml in this folder, or site-CLUSTER.yaml. ValueError for wrong options."""
    if options.diff and options.out:
        raise ValueError("--diff writes no file: give --diff or --out, not both.")
    name = options.diff or options.out or (f"site-{options.cluster}.yaml" if options.cluster else "site.yaml")
    path = Path(name).expanduser().absolute()
    if options.diff and not path.is_file():
        raise ValueError(f"{name}: no such file to compare with.")
    if not options.diff and not path.parent.is_dir():
        raise ValueError(f"{relative(path.parent)} is not a folder: --out {name} cannot be written there.")
    return path


def config_value(options: Options, path: Path) -> str:
    """ssh.config for the site file: relative to it where it is beside or below it. ValueError where there is none."""
    if not options.ssh_config:
        return ""
    config = Path(options.ssh_config).expanduser().absolute()
    if not config.is_file():
        raise ValueError(f"--ssh-config {options.ssh_config}: no such file.")
    return str(config.relative_to(path.parent) if config.is_relative_to(path.parent) else config)


# --- look


def look_at_site(options: Options, path: Path, login: Login, extra: Sequence[str]) -> Seen:
    """Everything that can be seen of the site. Raises READ_ERRORS, Several, SiteError."""
    name = options.master or MASTER
    user, at, host = name.rpartition("@")
    given = Login(login.config, user or login.user, login.sudo) if at else login
    site = provisional(path, given, host)  # a master that is no host's name ends it here
    _say(f"{host}: the master")
    reached = reach(path, host, site.master.host.name, "master", given)
    with closing(reached.sessions):
        site = provisional(path, reached.login, host)
        view = master.look(reached.session, site)
        if view.kubeconfig and view.kubeconfig != site.master.kubeconfig:
            site = provisional(path, reached.login, host, view.kubeconfig)
            reached.sessions.close()
            reached = reach(path, host, host, "master", reached.login, view.kubeconfig)
        kube = reached.sessions.master(host).cluster()
        whole = cluster.read(kube)
        if whole.slurms and not extra:
            chosen = choose_slurm(options, whole.slurms)
            others = tuple(one.name for one in whole.slurms if one is not chosen)
            return _in_pods(Seen(host, reached.login, reached.account, view, whole, chosen, others), site, reached)
        names = _names(view, extra, reached, site)
        search = hosts.Search(path, host, reached.login, names, lambda one: _say(f"{one}: slurmctld"))
        found = search.slurms()
        on_hosts = choose_slurm(options, found) if found else None
        others = tuple(one.name for one in found if one is not on_hosts)
        return seen_on_hosts(
            Seen(host, reached.login, reached.account, view, whole, on_hosts, others, silent=tuple(search.silent)), path
        )


def _names(view: master.MasterView, extra: Sequence[str], reached: Reached, site: Site) -> dict[str, str]:
    """The hosts that may run slurmctld, the surest first: as given; in a slurm.conf on the master; by their names."""
    if extra:
        return dict.fromkeys(extra, "--controllers")
    conf = slurm.look(reached.session, site, site.master.host.name)
    named = master.controllers_in(conf, site)
    return {**dict.fromkeys(named, f"SlurmctldHost in {site.slurm.conf} of {site.master.host.name}"), **view.names}


def choose_slurm(options: Options, slurms: Sequence[Any]) -> Any:
    """The Slurm that --cluster names, or the only one; a person is asked on a terminal. Raises Several."""
    names = [one.name for one in slurms]
    if options.cluster or len(slurms) == 1:
        for one in slurms:
            if options.cluster in ("", one.name):
                return one
        text = f"There is no Slurm {options.cluster!r} here{did_you_mean(options.cluster, names)}"
        raise Several(f"{text.rstrip('.')}. Found: {', '.join(names)}.")
    lines = [f"  {one.name}: {', '.join(_controller_names(one))}" for one in slurms]
    text = "\n".join(["This site has several Slurms; each gets a site file of its own:", *lines])
    if sys.stdin.isatty() and not options.json:
        with suppress(EOFError):
            answer = console.ask(f"{text}\nWhich one? ").strip()
            if answer in names:
                return slurms[names.index(answer)]
    command = [typed_name(), "discover", *_repeated(options), "--cluster", names[0]]
    raise Several(f"{text}\nChoose one: `{shlex.join(command)}`")


def _repeated(options: Options) -> Iterator[str]:
    given = {
        "--master": options.master,
        "--diff": options.diff,
        "--controllers": options.controllers,
        "--user": options.user,
        "--ssh-config": options.ssh_config,
    }
    for name, value in given.items():
        if value:
            yield from (name, value)
    if options.sudo:
        yield "--sudo"


def _controller_names(one: PodSlurm | HostSlurm) -> list[str]:
    if isinstance(one, PodSlurm):
        return [entry.workload for entry in one.controllers]
    return [host.name for host in one.controllers]


def _in_pods(seen: Seen, site: Site, reached: Reached) -> Seen:
    """What only the pod of a slurmctld shows: the rendered slurm.conf, the version, users. One that does not run shows nothing."""
    assert isinstance(seen.slurm, PodSlurm)
    why = "no pod of slurmctld is running"
    for slurmctld in seen.slurm.controllers:
        if len(slurmctld.running) != 1:
            continue
        host = Host(slurmctld.name, "controller", reached.login.user, reached.login.sudo, slurmctld.pod)
        _say(f"{slurmctld.name}: the pod of slurmctld")
        try:
            session = pod_session(site, host, reached.sessions)
            state = slurm.look(session, site, host.name)
            conf = slurm.configuration(site, state["files"]) if state["files"] else None
            users = slurm.users_or_none(session, site)
        except READ_ERRORS as error:
            why = error_text(error)
            continue
        except Refused as error:
            why = refusal_text(error)
            continue
        return _with_node(_replaced(seen, conf=conf, version=state["version"], users=users, asked=host.name), site.path)
    return _replaced(seen, conf_why=why)


def seen_on_hosts(seen: Seen, path: Path) -> Seen:
    """What the chosen Slurm's controllers showed."""
    if not isinstance(seen.slurm, HostSlurm):
        return seen
    conf, users = seen.slurm.configuration, seen.slurm.users
    # none of the controllers has a state where the host that has this slurm.conf is none of them, and they cannot be reached
    version = next((host.state["version"] for host in seen.slurm.controllers if host.state), "")
    asked = seen.slurm.source
    return _with_node(_replaced(seen, conf=conf, version=version, users=users, asked=asked), path)


def _with_node(seen: Seen, path: Path) -> Seen:
    """The same, with a look at the first compute node where nodes may have a slurm.conf of their own."""
    conf = seen.conf
    if conf is None or conf.configless or not conf.nodes:
        return seen
    first = expand(conf.nodes)[0]
    folder = (
        next((host.folder for host in seen.slurm.controllers if host.state), "")
        if isinstance(seen.slurm, HostSlurm)
        else ""
    )
    _say(f"{first}: a compute node")
    try:
        reached = reach(path, seen.master, first, "compute", seen.login)
        with closing(reached.sessions):
            file = shlex.quote(f"{folder or '/etc/slurm'}/slurm.conf")
            kind = reached.session.run(f"file={file}{_NODE}", deadline=30.0).out.decode(errors="replace")
    except READ_ERRORS as error:
        return _replaced(seen, node=Node(first, error_text(error).removeprefix(f"{first}: ")))
    return _replaced(seen, node=Node(first, "", kind.strip().removeprefix("kind=")))


def _replaced(seen: Seen, **values: Any) -> Seen:
    from dataclasses import replace

    return replace(seen, **values)


def _say(text: str) -> None:
    """What is looked at now, on a terminal: a person waits."""
    if sys.stderr.isatty():
        console.note(f"looking at {text} ...")


# --- the file


def _end(options: Options, path: Path, seen: Seen) -> int:
    """Write or compare, and say so."""
    values = proposal.values(seen)
    text = page.text(_head(seen), values)
    load(path, text=text)  # what it says is what every other command will read
    if options.diff:
        try:
            lines = difference.differences(path, path, text)
        except SiteError as error:
            console.note(error)
            return USAGE
        return _compared(options, path, values, lines)
    try:
        write(path, text)
    except FileExistsError:
        console.note(f"{relative(path)} was created meanwhile, and nothing is overwritten. Add --out FILE.")
        return REFUSED
    except OSError as error:
        console.note(f"{relative(path)} cannot be written: {error.strerror}. Add --out FILE to write it elsewhere.")
        return FAILED
    following = f"{typed_name()} plan --hosts {shlex.quote(_typed(path))}"
    if options.json:
        console.records(records(values, CONVERGED, str(path), seen.slurm.name if seen.slurm else "", [], following))
    else:
        printed(_rows(path, values, following))
    return CONVERGED


def _typed(path: Path) -> str:
    """The path as --hosts takes it: with a / or .yaml in it, so that it is no node set."""
    name = relative(path)
    return name if "/" in name or name.endswith(".yaml") else f"./{name}"


def _head(seen: Seen) -> list[str]:
    day = time.strftime("%Y-%m-%d")
    head = [
        f"The site as `invoke discover` saw it on {day}, through {seen.master}. Comments say where each value came from."
    ]
    head.append(
        f"Search for {page.MARK}: that could not be known. hosts.yaml of the project lists all keys and their defaults."
    )
    return [*head, f"yaml-language-server: $schema={SCHEMA if ROOT in SCHEMA.parents else SCHEMA.name}"]


def write(path: Path, text: str) -> None:
    """Create the file with all its text at once; every user may read it, whatever the umask: it has no secrets. Raises
    FileExistsError where there is one, also one that somebody creates meanwhile, and OSError."""
    with part_file.beside(path, text) as part:
        os.link(part, path)  # unlike a rename, it replaces nothing


# --- what is said


def _questions(values: Sequence[Value]) -> list[Value]:
    return [value for value in values if value.question]


def _rows(path: Path, values: Sequence[Value], following: str) -> Iterator[Row]:
    found = sum(value.value is not None for value in values)
    yield [("✓ ", "green"), (f"{relative(path)} written: {plural(found, 'value')}, each with its source", "bold")]
    yield from _question_rows(values, str(relative(path)))
    yield [("Next: ", "bold"), (f"`{following}`", "")]


def _question_rows(values: Sequence[Value], name: str) -> Iterator[Row]:
    if questions := _questions(values):
        yield [(f"{plural(len(questions), 'question')} that only you can answer, marked in {name}:", "bold yellow")]
        yield from ([(f"  {value.key}  ", "bold"), (value.question, "")] for value in questions)


def _compared(options: Options, path: Path, values: Sequence[Value], lines: Sequence[str]) -> int:
    code = CHANGES if lines else CONVERGED
    if options.json:
        console.records(records(values, code, "", "", lines, ""))
        return code
    name = relative(path)
    printed(_difference_rows(name, values, lines))
    return code


def _difference_rows(name: str, values: Sequence[Value], lines: Sequence[str]) -> Iterator[Row]:
    if not lines:
        yield [("✓ ", "green"), (f"{name} says what was found", "bold")]
    else:
        yield [(f"- as {name} has it, + as it was found:", "bold")]
        yield from (changed(line, "  ") for line in lines)
    yield from _question_rows(values, name) if lines else ()


def records(
    values: Sequence[Value], code: int, file: str, name: str, lines: Sequence[str], following: str
) -> Iterator[dict[str, Any]]:
    """The events of --json: each value, and the summary."""
    for value in values:
        yield {
            "event": "value",
            "key": value.key,
            "value": value.value,
            "source": value.source,
            "question": value.question,
        }
    yield {
        "event": "summary",
        "exit": code,
        "file": file,
        "cluster": name,
        "questions": len(_questions(values)),
        "diff": list(lines),
        "next": following,
    }
