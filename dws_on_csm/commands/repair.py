"""One host: `fab -H HOST look | repair STAGE|STEP | logs`, with the engine and the stages of a whole install."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fabric import Connection, task
from fabric.main import program
from invoke import Collection, Context

from dws_on_csm.commands import command_line
from dws_on_csm.commands.command_line import exit_usage
from dws_on_csm.display import console

if TYPE_CHECKING:
    from dws_on_csm.config.site import Site
    from dws_on_csm.model.step import Check, Stage, Step

command_line.install()
console.guard()

HELP = {
    "site": "the site file (default: hosts.yaml)",
    "yes": "do not ask before removing anything or restarting slurmctld",
    "json": "write JSON lines, and nothing else, to standard output",
    "verbose": "show each action and what it prints, in lines also on a terminal (also -v)",
    "job": "show only what concerns this job",
    "since": "how far back: 30s, 10m, 2h or 1d",
    "follow": "follow new lines until Ctrl-C",
    "all": "show also the lines `Reconciling Workflow` of DWS's controller, which say nothing",
}


@task(auto_shortflags=False, help={key: HELP[key] for key in ("site", "json")})
def look(c: Context, site: str | None = None, json: bool = False) -> None:
    """Show the state of this host and how it differs from the wanted one; change nothing."""
    given = _site(c, site)
    from dws_on_csm.commands.look import show

    sys.exit(show(given, json))


_REPAIR = {"what": "a stage (plugin) or one of its steps (plugin.lua)"} | {
    key: HELP[key] for key in ("site", "yes", "json", "verbose")
}


@task(positional=["what"], auto_shortflags=False, help=_REPAIR)
def repair(
    c: Context, what: str, site: str | None = None, yes: bool = False, json: bool = False, verbose: bool = False
) -> None:
    """Check a stage or step on this host, correct it, and verify the result."""
    sys.exit(repaired(_site(c, site), what, yes=yes, json=json, verbose=verbose))


def repaired(site: Site, what: str, *, yes: bool, json: bool, verbose: bool) -> int:
    """Repair the stage or step `what` on the one host that `site` is limited to. Returns the exit code."""
    what = _FORMER.get(what, what)
    from dws_on_csm.runner.options import Options
    from dws_on_csm.runner.run import run
    from dws_on_csm.stages.install import procedure

    every = procedure(site)
    stages = chosen(site, every, what)
    host = next(iter(site.limit or ()))
    unchanged = f"{what} is correct on {host}."
    options = Options("repair", yes=yes, json=json, verbose=verbose, words=(what,), host=host, reads=every)
    changed = f"{what} was corrected on {host}."
    proves = any(stage.proves for stage in stages)
    return run(site, stages, replace(options, verify=proves, changed_text=changed, unchanged_text=unchanged))


_FORMER = {"previous": "replace", "access.former": "access.old-subjects"}
_FORMER |= {"deploy.serves": "deploy.minimum", "deploy.admits": "deploy.webhook"}
"""Stages and steps by their former names; to be dropped with version 2, together with `redo`."""


@task(positional=["what"], auto_shortflags=False, help=_REPAIR)
def redo(
    c: Context, what: str, site: str | None = None, yes: bool = False, json: bool = False, verbose: bool = False
) -> None:
    """The former name of `repair`."""
    console.note("`redo` is now called `repair`; the old name will be dropped.")
    repair(c, what, site, yes, json, verbose)


@task(auto_shortflags=False, help={key: HELP[key] for key in ("site", "job", "since", "follow", "all")})
def logs(
    c: Context,
    site: str | None = None,
    job: str | None = None,
    since: str = "10m",
    follow: bool = False,
    all: bool = False,  # the option's name
) -> None:
    """Show the log lines of the plugin on this controller, or of DWS's pods on the master."""
    given = _site(c, site)
    from dws_on_csm.commands.logs.command import logs as show

    sys.exit(show(given, job, since, follow, all))


def _site(c: Any, path: str | None) -> Site:
    """The site, limited to the one host that -H names. Fabric's own connection is never opened: ours checks more."""
    from dws_on_csm.config.load import DEFAULT, load
    from dws_on_csm.config.site import HostsError
    from dws_on_csm.config.yaml_file import SiteError
    from dws_on_csm.runner.read_only import only

    if not isinstance(c, Connection):
        exit_usage("Name a host of the site file: fab -H HOST ...")
    if "," in program.args.hosts.value:
        exit_usage("Name one host at a time. For several hosts, use `invoke install --limit NODESET`.")
    plain = Connection(c.original_host, config=c.config)
    if (c.user, c.port) != (plain.user, plain.port):
        exit_usage(f"Use `fab -H {c.original_host}` without a user or port: the site file and ssh_config set them.")
    try:
        return only(load(Path(path).expanduser() if path else DEFAULT, "--site"), c.original_host)
    except (SiteError, HostsError) as error:
        exit_usage(error)


def chosen(site: Site, stages: Sequence[Stage], what: str) -> tuple[Stage, ...]:
    """The stages of a repair on `site`'s one host: the preflight, and the stage or step `what`.

    Exits where there is no such stage or step, or where it has nothing to do there.
    """
    from dws_on_csm.config.nodeset import did_you_mean
    from dws_on_csm.model.step import Check
    from dws_on_csm.stages.dws import replace as dws_replace
    from dws_on_csm.stages.install import OF_DWS
    from dws_on_csm.stages.preflight import endpoints, repair_needs

    name, _, step = what.partition(".")
    known = {stage.name: stage for stage in stages}
    if site.external and name in OF_DWS:
        exit_usage(
            f"There is no stage {name} here: somebody else deploys DWS (dws: external). Stages: {', '.join(known)}."
        )
    if name not in known:
        exit_usage(f"{name} is not a stage{did_you_mean(name, known) or '.'} Stages: {', '.join(known)}.")
    names = [item.name for item in known[name].steps]
    if step and step not in names:
        exit_usage(f"{step} is not a step of {name}{did_you_mean(step, names) or '.'} Steps: {', '.join(names)}.")
    # the stage's checks must hold before any of its steps is changed
    guards = {item.name for item in known[name].steps if isinstance(item, Check) and name != "preflight"}
    items = tuple(item for item in known[name].steps if step in ("", item.name) or item.name in guards)
    earlier = repair_needs.check(stages, name, _role(site, what, items))
    # checks that protect a removal of DWS only matter where DWS, or a part of it, is removed
    removal = {check.name for check in dws_replace.checks("preflight")}
    spared = removal - guards if name not in ("preflight", dws_replace.STAGE.name) else set()
    if name not in (*OF_DWS, "deploy", "preflight"):
        spared.add(endpoints.REGISTRY.name)
    deploys = name in (*OF_DWS, "deploy", "preflight")
    kept = (repair_needs.relevant(item, deploys) for item in known["preflight"].steps if item.name not in spared)
    first = replace(known["preflight"], steps=(*kept, earlier))
    return (first,) if name == "preflight" else (first, replace(known[name], steps=items))


def _role(site: Site, what: str, items: Sequence[Step | Check]) -> str:
    """The role of the site's one host in `items`; exits where it has nothing to do."""
    from dws_on_csm.model.step import Step
    from dws_on_csm.runner.connections import roles

    host = next(iter(site.limit or ()))
    hosts_of = roles(site)
    changing = [item for item in items if isinstance(item, Step)] or items
    mine = [item.role for item in changing if host in hosts_of.get(item.role, ())]
    if not mine:
        at = dict.fromkeys(other for item in changing for other in hosts_of.get(item.role, ()))
        exit_usage(f"{what} has nothing to do on {host}; it runs on {', '.join(at) or 'no host of this site'}.")
    return mine[0]


namespace = Collection(look, repair, redo, logs)
command_line.add_exit_codes(namespace)
