"""`invoke rollback`: reads the hosts' records, derives what to reach, and starts the run that restores it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dws_on_csm.commands.history import former_state, rollback_target
from dws_on_csm.commands.history.host_record import HostRecord, compared_paths, parse_host_record
from dws_on_csm.config.site import Host, Site
from dws_on_csm.display import console
from dws_on_csm.display.progress import fold
from dws_on_csm.domain import names
from dws_on_csm.model import render
from dws_on_csm.model.actions import STATE
from dws_on_csm.model.errors import READ_ERRORS, Unreachable, error_text
from dws_on_csm.model.exit_codes import FAILED, REFUSED
from dws_on_csm.model.snapshot import RollbackTarget
from dws_on_csm.runner import commands_to_paste, masters, past_runs
from dws_on_csm.runner.connections import Sessions, connect_all, roles
from dws_on_csm.runner.interrupt import ending_at_once
from dws_on_csm.runner.options import Options
from dws_on_csm.runner.past_runs import PastRun
from dws_on_csm.runner.run import run
from dws_on_csm.stages.access import revoked_names
from dws_on_csm.stages.dws import foreign_objects, installed
from dws_on_csm.stages.rollback import procedure, unchanged


class CannotRollBack(Exception):
    """The run cannot be rolled back; says why."""


def rollback(site: Site, name: str, options: Options) -> int:
    """Restore the state before the run `name` ("": the last that changed something); the exit code."""
    try:
        with ending_at_once():
            wanted, target, sentences = _read(site, name)
    except CannotRollBack as error:
        console.note(commands_to_paste.with_site(str(error), site))
        return REFUSED
    except READ_ERRORS as error:
        fix = getattr(error, "fix", "")
        console.note(f"Nothing was rolled back: {error_text(error)}", *([f"Fix: {fix}"] if fix else []))
        return FAILED
    stays = " ".join([f"The workarea {site.master.workarea} and the images in {site.registry.name} stay.", *sentences])
    where = ""
    if site.limit is not None:
        where = f" on {fold(sorted(site.limit))}, and on no other host that run {wanted.id} changed"
    changed = f"Rolled back to the state before run {wanted.id}{where}. {stays}"
    unchanged = f"The site is already in the state before run {wanted.id}{where}. {stays}"
    options = replace(options, words=(wanted.id,), undoes=wanted.id, changed_text=changed, unchanged_text=unchanged)
    former = replace(site, versions=replace(site.versions, dws=target.version or site.versions.dws))
    return run(former if target.dws == "install" else site, procedure.stages(target, site.slurm.conf), options)


def _read(site: Site, name: str) -> tuple[PastRun, RollbackTarget, list[str]]:
    """The run, what to reach, and what stays as it is, in sentences. Raises CannotRollBack."""
    hosts = [*past_runs.recording_hosts(site), *site.hosts("compute")]
    sessions = connect_all(site, hosts)
    try:
        master = sessions.master(site.master.host.name)
        if why := masters.records_elsewhere(site, master.cluster(), master):
            raise CannotRollBack(f"Nothing was rolled back. {why}")
        # before all else: the rollback compares this with the hosts again, and so notices a run that starts from now on
        fingerprints = _fingerprints(site, sessions, hosts)
        runs = past_runs.joined({}, past_runs.on_hosts(site, sessions))
        wanted = choose_run(runs, name, site)
        refuse_other_sites(runs, wanted, site)
        records = _host_records(site, sessions, hosts, wanted.id)
        unreadable = unreadable_records(runs, records, wanted.id)
        now = installed.read(master.cluster())
        ca = master.run(f"cat {site.master.pki}/ca.crt", deadline=30.0).out
        removed = records[site.master.host.name].objects.get(installed.NAMESPACE, {"before": "?"})["before"] is None
        foreign = foreign_objects.found(master.cluster()) if removed and now["namespace"] else []
        binding, revoked = master.cluster().get(former_state.BINDING), frozenset(revoked_names.read(master.cluster()))
    finally:
        sessions.close()
    access = rollback_target.AccessNow(ca, binding, revoked)
    try:
        target, sentences = rollback_target.target(site, wanted, runs, roles(site), records, now, access)
    except former_state.HalfRemoved as half:
        raise CannotRollBack(half_removed_text(half, wanted, runs)) from half
    if target.renew and (lost := keys_lost(site, records[site.master.host.name], binding)):
        raise CannotRollBack(
            f"Nothing was rolled back: before run {wanted.id}, the plugin in {', '.join(lost)} logged in with a key, which is not "
            "saved; now it logs in with its pod's ServiceAccount. Set access.via: ca and run `invoke install`: it makes a new key."
        )
    if foreign and any(thing.path == installed.NAMESPACE and thing.before is None for thing in target.things):
        sentences.append(
            f"The namespace {names.NAMESPACE} stays, because it has objects of others: {', '.join(foreign)}."
        )
    return wanted, replace(target, records=fingerprints, now=now), [*sentences, *unreadable]


def keys_lost(site: Site, master: HostRecord, binding: Mapping[str, Any] | None) -> list[str]:
    """The pods whose plugin had a key in a Secret before, and logs in with a ServiceAccount by the present binding."""
    namespaces = former_state.accounts(binding)
    by_account = {host.name for host in site.controllers if host.pod and host.pod.namespace in namespaces}
    return [name for name in rollback_target.pods_without_kubeconfig(site, master) if name in by_account]


def half_removed_text(half: former_state.HalfRemoved, wanted: PastRun, runs: Sequence[PastRun]) -> str:
    """Why nothing is rolled back where DWS was half removed, and which run to roll back instead."""
    text = (
        f"Nothing was rolled back. Before run {wanted.id}, DWS {half.version} was half removed: an undeploy had been "
        "interrupted. That state cannot be restored, and DWS stays as it is now."
    )
    complete = [
        run.id for run in runs if run.id < wanted.id and run.kept and run.installed and not run.installed["unfinished"]
    ]
    back = f" `invoke rollback {complete[-1]}` goes back to a state with a complete DWS." if complete else ""
    return f"{text}{back} `invoke undeploy` removes DWS."


def unreadable_records(runs: Sequence[PastRun], records: Mapping[str, HostRecord], first: str) -> list[str]:
    """Unreadable records of the run `first` and later ones that a rollback does not need, in sentences.

    Raises CannotRollBack where it needs one: without that record a former state is unknown.
    """
    missing = [
        f"run {run}: {name}, on {host}"
        for host, record in records.items()
        for run in record.missing
        for name in record.missing[run]
    ]
    if missing:
        raise CannotRollBack(
            f"Nothing was rolled back: these records of former states cannot be read: {'; '.join(missing)}. "
            "Choose a later run (`invoke journal` lists the runs), or restore the former state by hand."
        )
    unreadable = {
        (run, f"{name}, on {host}")
        for host, record in records.items()
        for run in record.unreadable
        for name in record.unreadable[run]
    }
    unreadable |= {(run.id, name) for run in runs if run.id >= first for name in run.unreadable_records}
    return [f"A record of run {run} cannot be read, but is not needed: {name}." for run, name in sorted(unreadable)]


def choose_run(runs: Sequence[PastRun], name: str, site: Site) -> PastRun:
    """The run `name`, or the last that changed something and is not yet undone. Raises CannotRollBack."""
    by_id = {run.id: run for run in runs}
    if not name:
        last = past_runs.last(runs, [host.name for host in site.controllers])
        later = [run.id for run in runs if past_runs.headless(run) and (last is None or run.id > last.id)]
        if later:
            raise CannotRollBack(
                f"The last run is unclear: run {later[-1]} has no readable record of {past_runs.OPENED}. "
                "Name the run to roll back: `invoke journal` lists the runs."
            )
        if last is None:
            raise CannotRollBack(
                "Nothing to roll back: the hosts know no run that changed something and is not yet undone."
            )
        return last
    if name not in by_id:
        raise CannotRollBack(
            f"The hosts know no run {name}. `invoke journal` lists the runs; the last {site.keep_runs} are kept (keep_runs)."
        )
    if past_runs.headless(by_id[name]):
        raise CannotRollBack(
            f"Run {name} cannot be rolled back: its record on {site.master.host.name} that says {past_runs.OPENED} cannot be read."
        )
    if not by_id[name].kept:
        raise CannotRollBack(
            f"Run {name} cannot be rolled back: its before-images were removed. "
            f"Those of the last {site.keep_runs} runs are kept (keep_runs in the site file)."
        )
    return by_id[name]


def refuse_other_sites(runs: Sequence[PastRun], wanted: PastRun, site: Site) -> None:
    """Raises CannotRollBack where one of the runs that would be undone was of another Slurm's site file: on the master its changes
    would be undone, too, and on its controllers not."""
    own = {host.name for host in site.controllers}
    for later in runs:
        settled = past_runs.is_undone(later, runs) or (later.undoes >= wanted.id and later.code == 0)
        if later.id >= wanted.id and later.changes and later.of_another_slurm(own) and not settled:
            raise CannotRollBack(
                f"Run {later.id} would be undone too, and was made with another site file (controllers "
                f"{fold(sorted(later.controllers))}): another Slurm uses this DWS. Roll that run back with its own site file first."
            )


def _fingerprints(site: Site, sessions: Sessions, hosts: Sequence[Host]) -> dict[str, str]:
    """Host -> what all runs left there, as one word (see unchanged.records)."""
    lines = past_runs.read_on(site, sessions, _reachable(sessions, hosts), unchanged.records())
    return {host: "".join(words) for host, words in lines.items()}


def _reachable(sessions: Sessions, hosts: Sequence[Host]) -> list[Host]:
    return [host for host in hosts if not isinstance(sessions[host.name], Unreachable)]


def _host_records(site: Site, sessions: Sessions, hosts: Sequence[Host], first: str) -> dict[str, HostRecord]:
    """Host -> what the run `first` and later ones recorded there."""
    reachable = _reachable(sessions, hosts)
    controllers = {host.name for host in site.controllers}
    lines: dict[str, list[str]] = {}
    for conf in (site.slurm.conf, ""):  # only a controller's slurm.conf decides anything
        chosen = [host for host in reachable if (host.name in controllers) == bool(conf)]
        lines |= past_runs.read_on(site, sessions, chosen, record_script(site, first, conf))
    return {host: parse_host_record(own_lines(site, host, printed)) for host, printed in lines.items()}


def record_script(site: Site, first: str, conf: str) -> str:
    """The script that prints what the run `first` and later ones recorded on a host, and the slurm.conf at `conf`."""
    settings = {"state": STATE, "first": first, "conf": conf, "literals": "\n".join(compared_paths(site))}
    settings["kubeconfig"] = names.KUBECONFIG
    return render.script("lib/safe_file.sh", "lib/holds_secret.sh", "host/host_record.sh", **settings)


def own_lines(site: Site, host: str, lines: Sequence[str]) -> list[str]:
    """The lines that a host may print: the master alone records the cluster's objects, the other hosts only files."""
    return [line for line in lines if host == site.master.host.name or not line.startswith("object ")]
