"""The Slurm clusters that use this DWS: a record in the cluster, which the run of each site file keeps for its own Slurm.

One site file describes one Slurm cluster; several of them may use one DWS. What one must know of the others is here: the namespace
of their Workflows, the version that their plugin writes, and who they are. The ClusterRoleBinding decides who has rights: an entry
none of whose subjects it has is of a Slurm cluster that is gone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypedDict, cast

from dws_on_csm.config.site import Host, Site
from dws_on_csm.domain import compatibility, names, plugin_role, slurm_conf
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.step import Check, Fact, Finding, NotYetKnown, StepContext
from dws_on_csm.stages.dws import manifests
from dws_on_csm.stages.facts import CONTROLLER
from dws_on_csm.stages.pod import service_account

NAME, NAMESPACE = "dws-on-csm-slurms", "kube-system"
PATH = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{NAME}"
"""A ConfigMap: common name -> an Entry as JSON. Each run writes its own Slurm's key alone."""


class Entry(TypedDict):
    """A Slurm cluster that uses this DWS.

    user         the common name of its certificates
    cluster      ClusterName in its slurm.conf; "" where that was not seen
    namespace    where its Workflows are
    writes       the API version of the Workflows that its plugin writes
    controllers  the hosts and pods where its slurmctld runs, as `controller_ids` has them
    subjects     its subjects in the ClusterRoleBinding
    """

    user: str
    cluster: str
    namespace: str
    writes: str
    controllers: list[str]
    subjects: list[str]


class Recorded(TypedDict):
    """What the cluster says: each entry by its key, and the subjects that have rights now."""

    entries: dict[str, Entry]
    bound: list[str]


FACT: Fact[Recorded] = Fact("preflight", "slurm-clusters")


def read_entries(cluster: Cluster) -> dict[str, Entry]:
    """The entries by their keys. What is no entry, after an edit by hand, is left out. Raises ClusterError."""
    return _entries(cluster.get(PATH))


def _entries(record: Mapping[str, Any] | None) -> dict[str, Entry]:
    data = (record or {}).get("data") or {}
    return {key: entry for key, text in data.items() if (entry := parse(text))}


def users(record: Mapping[str, Any] | None) -> set[str]:
    """The common names of the entries in a record; None: there is no record."""
    return {entry["user"] for entry in _entries(record).values()}


def parse(text: str) -> Entry | None:
    """An entry from its JSON text; None where it is none."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    texts, lists = ("user", "cluster", "namespace", "writes"), ("controllers", "subjects")
    right = (
        isinstance(value, dict)
        and all(isinstance(value.get(name), str) for name in texts)
        and all(isinstance(value.get(name), list) and {*map(type, value[name])} <= {str} for name in lists)
    )
    return cast(Entry, {name: value[name] for name in (*texts, *lists)}) if right else None


def _read(cluster: Cluster) -> Recorded:
    bindings = [
        cluster.get(f"{names.RBAC}/clusterrolebindings/{name}") for name in (names.BINDING, names.INTERIM_BINDING)
    ]
    subjects = [subject for binding in bindings if binding for subject in binding.get("subjects") or ()]
    return {"entries": read_entries(cluster), "bound": sorted({*map(plugin_role.subject_name, subjects)})}


def key(user: str) -> str:
    """The key of a common name in the ConfigMap, whose keys have few characters."""
    return re.sub(r"[^-._a-zA-Z0-9]", "_", user)


def controller_ids(site: Site) -> list[str]:
    """The site's controllers: names of hosts; of pods, which may have the same names in two site files, where they are."""
    return [_id(host) for host in site.controllers]


def _id(host: Host) -> str:
    return f"{host.name} (pod {host.pod.namespace}/{host.pod.selector})" if host.pod else host.name


def own(ctx: StepContext, entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """The entries of this site's Slurm: also one of a former name, which has a controller of this site."""
    mine = set(controller_ids(ctx.site))
    by_name = key(ctx.site.access.common_name)
    return {
        name: entry
        for name, entry in entries.items()
        if mine & {*entry["controllers"]} or (name == by_name and _same_cluster(ctx, entry))
    }


def _same_cluster(ctx: StepContext, entry: Entry) -> bool:
    """Whether an entry with this site's common name, and none of its controllers, may be this Slurm's: ClusterName says so."""
    return bool(entry["cluster"]) and entry["cluster"] == cluster_name(ctx)


def cluster_name(ctx: StepContext) -> str:
    """ClusterName in the controllers' slurm.conf; "" where none was seen."""
    conf, folder = ctx.site.slurm.conf, ctx.site.slurm.folder
    for controller in ctx.facts.known(CONTROLLER).values():
        files = controller["files"]
        if setting := slurm_conf.value(files.get(conf, ""), "ClusterName", files, folder):
            return setting.value
    return ""


def others(ctx: StepContext) -> dict[str, Entry]:
    """The entries of other Slurm clusters that have rights now; none before they were read."""
    seen = ctx.facts.one_or_none(FACT)
    if seen is None:
        return {}
    mine, bound = own(ctx, seen["entries"]), set(seen["bound"])
    return {name: entry for name, entry in seen["entries"].items() if name not in mine and bound & {*entry["subjects"]}}


def describe(entry: Entry) -> str:
    """A Slurm cluster in words: who it is, where its slurmctld runs, and where its Workflows are."""
    cluster = f"Slurm cluster {entry['cluster']}" if entry["cluster"] else f"the Slurm cluster of {entry['user']}"
    details = (", ".join(entry["subjects"]), f"controllers {', '.join(entry['controllers'])}")
    return f"{cluster} ({'; '.join(details)}; Workflows in the namespace {entry['namespace']})"


def describe_subjects(ctx: StepContext, subjects: Collection[str]) -> list[str]:
    """Whose these subjects of the binding are, in words; a subject without an entry as it is."""
    entries = [entry for entry in others(ctx).values() if {*entry["subjects"]} & {*subjects}]
    return [*map(describe, entries), *sorted(set(subjects) - known_subjects(ctx))]


def known_subjects(ctx: StepContext) -> set[str]:
    """The subjects of the other Slurm clusters that are recorded."""
    return {subject for entry in others(ctx).values() for subject in entry["subjects"]}


def of_namespace(ctx: StepContext, namespace: str) -> str:
    """The other Slurm cluster whose Workflows are in a namespace, by ClusterName or its common name; "" where none is known."""
    found = [entry for entry in others(ctx).values() if entry["namespace"] == namespace]
    return (found[0]["cluster"] or found[0]["user"]) if len(found) == 1 else ""


# --- what must differ between the Slurm clusters of one DWS


def judge(ctx: StepContext, have: Recorded) -> Sequence[Finding]:
    """Findings where this site would take what another Slurm cluster has: its name, its namespace, its pods' records."""
    return [*_judge_name(ctx, have), *_judge_namespace(ctx), *_judge_controller_names(ctx)]


def _judge_name(ctx: StepContext, have: Recorded) -> Iterator[Finding]:
    name, entries = ctx.site.access.common_name, have["entries"]
    entry = entries.get(key(name))
    if not entry or entry["user"] != name or key(name) in own(ctx, entries) or f"User {name}" not in have["bound"]:
        return
    text = f"{describe(entry)} has the name {name}, too (access.common_name): a revocation of one would revoke both"
    forget = json.dumps({"data": {key(name): None}}, separators=(",", ":"))
    patch = f"kubectl --namespace {NAMESPACE} patch configmap {NAME} --type merge --patch '{forget}'"
    fix = f"set access.common_name in {ctx.site.path.name} to another name. "
    yield Finding(
        "name-shared", text, f"{fix}If this is the same Slurm cluster with other controllers: `{patch}` on the master"
    )


def _judge_namespace(ctx: StepContext) -> Iterator[Finding]:
    space = ctx.site.access.namespace
    for entry in others(ctx).values():
        if entry["namespace"] == space:
            text = f"{describe(entry)} has its Workflows in {space}, too (access.namespace): job 12 of either Slurm has the "
            text += "Workflow bb12 there, so one would use and delete the other's"
            fix = f"set access.namespace in {ctx.site.path.name} to a namespace of its own"
            yield Finding("namespace-shared", text, f"{fix}; access.create_namespace: true creates it")


def _judge_controller_names(ctx: StepContext) -> Iterator[Finding]:
    """Controllers in pods have their records on the master, by their names in the site file."""
    mine = {host.name: _id(host) for host in ctx.site.controllers}
    for entry in others(ctx).values():
        theirs = {identity.partition(" ")[0]: identity for identity in entry["controllers"]}
        for name in sorted(mine.keys() & theirs.keys()):
            if mine[name] != theirs[name] and " " in mine[name] + theirs[name]:
                text = f"{describe(entry)} has a controller called {name}, too: the records of both would be one on the master"
                fix = f"give it another name in {ctx.site.path.name}: `pod: {{name: NAME, ...}}`"
                yield Finding("controller-name-shared", text, fix)


CHECK = Check(FACT.step, "master", lambda ctx: FACT.api(_read), judge)

READ = Check(FACT.step, "master", lambda ctx: FACT.api(_read), lambda ctx, have: ())
"""Reads who uses this DWS, for whoever has to name the others."""


# --- another version of DWS


def strangers(ctx: StepContext) -> set[str]:
    """The subjects of the binding that are not this site's, as far as that is known without its kubeconfigs."""
    if (seen := ctx.facts.one_or_none(FACT)) is None:
        return set()
    mine = {subject for entry in own(ctx, seen["entries"]).values() for subject in entry["subjects"]}
    return set(seen["bound"]) - mine - {f"User {ctx.site.access.common_name}"} - service_account.known_subjects(ctx)


def broken(ctx: StepContext) -> Sequence[Finding]:
    """Findings for other Slurm clusters whose plugin writes Workflows that the wanted DWS does not serve. One without an entry is
    taken to have the plugin as it comes."""
    findings = []
    for entry in others(ctx).values():
        if not served(ctx, entry["writes"]):
            findings.append(_breaks(ctx, describe(entry), entry["writes"]))
    unknown = sorted(strangers(ctx) - known_subjects(ctx))
    if unknown and not served(ctx, names.WORKFLOW_VERSION):
        findings.append(
            _breaks(ctx, f"another Slurm cluster, with the rights of {', '.join(unknown)},", names.WORKFLOW_VERSION)
        )
    return findings


def _breaks(ctx: StepContext, who: str, writes: str) -> Finding:
    wanted = ctx.site.versions.dws
    text = f"{who} writes Workflows of {writes}, which DWS {wanted} does not serve: its #DW jobs would be refused"
    fix = "keep a version of DWS that serves both; or wait until that Slurm has no #DW jobs, set accept: [other-slurm-breaks], "
    fix += f"run `invoke install` for this site, then at once for the other Slurm's site file (versions.dws: {wanted})"
    return Finding("other-slurm-breaks", text, fix)


def served(ctx: StepContext, version: str) -> bool:
    """Whether the wanted DWS serves a version of Workflows; before it is cloned, by what is known of its releases."""
    try:
        return version in manifests.versions(manifests.objects(ctx)).get("workflows", {version})
    except NotYetKnown:
        rows = compatibility.broken({"plugin": ctx.site.versions.plugin, "dws": ctx.site.versions.dws})
        return version != names.WORKFLOW_VERSION or not rows


def write(cluster: Cluster, entries: Mapping[str, Entry | None]) -> bytes:
    """Write these entries, and remove those that are None; others stay. Without any the ConfigMap goes. Raises ClusterError."""
    data = {name: None if entry is None else json.dumps(entry, sort_keys=True) for name, entry in entries.items()}
    if cluster.get(PATH) is None:
        written = {name: text for name, text in data.items() if text is not None}
        meta = {"name": NAME, "namespace": NAMESPACE}
        new = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": written}
        cluster.create(PATH.rpartition("/")[0], new)
    elif not cluster.patch(PATH, {"data": data}).get("data"):
        cluster.delete(PATH, 60.0)
    return b""
