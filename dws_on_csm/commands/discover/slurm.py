"""What a controller shows of its Slurm: who the controllers are, the nodes, and which users may submit the test job."""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dws_on_csm.config.nodeset import expand
from dws_on_csm.config.site import Site
from dws_on_csm.display.progress import fold
from dws_on_csm.domain import slurm_conf
from dws_on_csm.model import render
from dws_on_csm.model.errors import RemoteError
from dws_on_csm.model.lines import all_values, parse_pairs
from dws_on_csm.model.step import Facts, StepContext
from dws_on_csm.stages.facts import Controller
from dws_on_csm.stages.slurm import controller
from dws_on_csm.stages.slurm.slurmctld_hosts import Entry, entries
from dws_on_csm.transport.remote_shell import RemoteShell

_USERS = r"""
find_slurm
for one in $own; do
    find_account "$one" || continue
    number=$(number_or_zero "$as_number")
    if [ "$number" -ge 1000 ]; then fact own "$one"; fi
done
{ getent passwd || :; } | awk -F: '$3 >= 1000 && $3 != 65534 && $7 !~ /(nologin|false)$/ { print "user=" $1 }' | head -n 50
{ slurm timeout 10 squeue --noheader --all --format %u 2>/dev/null </dev/null || :; } |
    sort | uniq -c | sort -rn | sed -n '1,5s/^ *[0-9]* /queue=/p'
"""


@dataclass(frozen=True)
class Users:
    """Ordinary users that a controller knows: the administrator's own names; all, as far as they are listed; those with jobs."""

    own: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    queued: tuple[str, ...] = ()


@dataclass(frozen=True)
class Configuration:
    """What slurm.conf says.

    cluster     ClusterName
    entries     each SlurmctldHost, in the order in which they take over
    nodes       all nodes as a node set; "" where it names none that this tool can read
    configless  whether nodes get their files from slurmctld
    partitions  names; default: those that are the default
    """

    cluster: str
    entries: tuple[Entry, ...]
    nodes: str
    configless: bool
    partitions: tuple[str, ...]
    default: tuple[str, ...]


def look(session: RemoteShell, site: Site, host: str) -> Controller:
    """The look of the preflight at a controller; `host` is its name there. Raises READ_ERRORS."""
    script = controller.look(StepContext(site, Facts({}), host))
    state: Controller = script.parse(session.run(script.script, deadline=site.deadlines.look).out)
    return state


def users_or_none(session: RemoteShell, site: Site) -> Users:
    """The users that the host of a controller knows; none where it does not say: then the user is a question."""
    slurm = site.slurm
    script = render.script("lib/as.sh", "lib/slurmctld.sh", folder=slurm.folder, unit=slurm.service, own=own_names())
    try:
        pairs = parse_pairs(session.run(script + _USERS, deadline=site.deadlines.look).out, "replace")
    except RemoteError:
        return Users()
    return Users(*(tuple(dict.fromkeys(filter(_is_user, all_values(pairs, key)))) for key in ("own", "user", "queue")))


def own_names() -> str:
    """The names of whoever runs this: SUDO_USER's, and this process's."""
    try:
        mine = getpass.getuser()
    except (OSError, KeyError):  # a number without a name
        mine = ""
    return " ".join(dict.fromkeys(filter(_is_user, (os.environ.get("SUDO_USER", ""), mine))))


def _is_user(name: str) -> bool:
    return bool(re.fullmatch(r"[0-9A-Za-z_][0-9A-Za-z_.@-]*\$?", name))


def configuration(site: Site, files: Mapping[str, str]) -> Configuration:
    """What slurm.conf and its includes say; `files` as the look at a controller returns them. Raises Refused if too large."""
    text, folder = files.get(site.slurm.conf, ""), site.slurm.folder
    parameters = slurm_conf.value(text, "SlurmctldParameters", files, folder)
    named = slurm_conf.value(text, "ClusterName", files, folder)
    partitions = [
        (words[0], {word.lower() for word in words[1:]})
        for words in slurm_conf.entries(text, "PartitionName", files, folder)
        if words[0].upper() != "DEFAULT"
    ]
    return Configuration(
        cluster=named.value if named else "",
        entries=tuple(entries(site, files)),
        nodes=_nodes([words[0] for words in slurm_conf.entries(text, "NodeName", files, folder)]),
        configless=bool(parameters and "enable_configless" in parameters.value.lower()),
        partitions=tuple(name for name, _ in partitions),
        default=tuple(name for name, words in partitions if "default=yes" in words),
    )


def _nodes(names: Sequence[str]) -> str:
    """All nodes as one node set in its short form; "" where one of these is none that this tool can read."""
    wanted = [name for name in names if name.upper() != "DEFAULT"]
    try:
        return fold(node for name in wanted for node in expand(name)) if wanted else ""
    except ValueError:
        return ""
