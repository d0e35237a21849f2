"""A site in memory: a cluster with versions of DWS, a controller's files, and the records that runs leave there.

The product's own code records the cluster's objects (before_images.record_begin, keep and record_result), makes targets
(rollback_target.target) and restores objects (stages/rollback/objects). A run can be interrupted between any two changes.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dws_on_csm.commands.history import former_state, rollback_target
from dws_on_csm.commands.history.host_record import parse_host_record
from dws_on_csm.config.site import Site
from dws_on_csm.domain import names
from dws_on_csm.engine import before_images
from dws_on_csm.engine.reach import Reach, StepReporter
from dws_on_csm.kube import objects as kube_objects
from dws_on_csm.model.actions import Action, Delete, RunScript
from dws_on_csm.model.snapshot import ABSENT, ObjectSnapshot, RollbackTarget
from dws_on_csm.model.step import ApiLook, Facts, StepContext
from dws_on_csm.runner import past_runs
from dws_on_csm.runner.past_runs import PastRun
from dws_on_csm.stages.access import revoked_names
from dws_on_csm.stages.dws import installed
from dws_on_csm.stages.rollback import objects, unchanged
from dws_on_csm.transport.remote_shell import Result

RBAC = "/apis/rbac.authorization.k8s.io/v1"
MASTER, CONTROLLER = "m", "c"
LUA, PLUGIN_CONF, CONF = (f"/etc/slurm/{name}" for name in ("burst_buffer.lua", "burst_buffer.conf", "slurm.conf"))
PLAIN, ENABLED = b"ClusterName=x\n", b"ClusterName=x\nBurstBufferType=burst_buffer/lua\n"
CRDS = ("storages", "workflows")

Object = dict[str, Any]


class Cut(Exception):
    """A run was interrupted."""


class Refused(Exception):
    """A run refused to start."""


def by_hand(version: str) -> bool:
    """Whether the plugin's role is applied in addition to what this version of DWS deploys."""
    return names.version_key(version) < (0, 1, 1)


def role_of(version: str) -> str:
    """The plugin's role with this version of DWS."""
    return names.ROLE if by_hand(version) else f"dws-{names.ROLE}"


def dws(version: str) -> dict[str, Object]:
    """The objects of a version of DWS, by path, in the order of their creation."""
    objects: dict[str, Object] = {installed.NAMESPACE: _object("Namespace", names.NAMESPACE)}
    for plural in CRDS:
        crd = _object("CustomResourceDefinition", f"{plural}.{names.GROUP}")
        versions = [{"name": "v1alpha2", "served": True, "storage": True}]
        crd["spec"] = {"names": {"plural": plural, "kind": plural.title()}, "versions": versions, "of": version}
        objects[f"{installed.CRDS}/{plural}.{names.GROUP}"] = crd
    for label, path in installed.TRACES.items():
        kind, _, name = label.partition(" ")
        objects[path] = {**_object(kind, name), "spec": {"of": version}}
        if kind == "Deployment":
            containers = [{"image": f"registry.local/dws:{version}"}]
            objects[path]["spec"]["template"] = {"spec": {"containers": containers}}
    if not by_hand(version):
        objects[f"{RBAC}/clusterroles/dws-{names.ROLE}"] = _object("ClusterRole", f"dws-{names.ROLE}")
    return objects


def _object(kind: str, name: str) -> Object:
    return {"kind": kind, "metadata": {"name": name}}


@dataclass
class InMemory:
    """A Kubernetes API of objects in memory."""

    objects: dict[str, Object] = field(default_factory=dict)
    version: int = 0

    def get(self, path: str, **query: str) -> Object | None:
        """An object, or discovery's answer for DWS's group."""
        crds = [crd for crd in self.objects.values() if crd["kind"] == "CustomResourceDefinition"]
        group = f"/apis/{names.GROUP}"
        if path == group:
            return {"versions": [{"groupVersion": f"{names.GROUP}/v1alpha2"}]} if crds else None
        if path == f"{group}/v1alpha2":
            return {"resources": [{"name": crd["metadata"]["name"].partition(".")[0]} for crd in crds]}
        return copy.deepcopy(self.objects.get(path))

    def write(self, path: str, item: Mapping[str, Any]) -> None:
        """Create or replace an object."""
        self.version += 1
        written = copy.deepcopy(dict(item))
        written["metadata"]["resourceVersion"] = str(self.version)
        self.objects[path] = written

    def state(self) -> dict[str, Object]:
        """The objects without what the server writes."""
        return {path: kube_objects.normal(item) for path, item in self.objects.items()}


@dataclass
class Simulated:
    """The site; `certificate` makes one (PEM) for a name. `cut`: after so many changes a run is interrupted (None: never)."""

    site: Site
    certificate: Callable[[str], bytes]
    ca: bytes
    api: InMemory = field(default_factory=InMemory)
    files: dict[str, tuple[str, str, bytes]] = field(default_factory=lambda: {CONF: ("644", "root:root", PLAIN)})
    on_master: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    on_controller: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    cut: int | None = None
    changes: int = 0
    runs: int = 0
    run: str = ""

    # --- what is there

    def state(self) -> tuple[dict[str, Object], dict[str, tuple[str, str, bytes]]]:
        """All objects and files."""
        return copy.deepcopy(self.api.state()), dict(self.files)

    def now(self) -> installed.Installed:
        """The DWS installation as every run sees it."""
        return installed.read(self.api)  # type: ignore[arg-type]

    def revoked(self) -> frozenset[str]:
        """The names that were revoked."""
        return frozenset(revoked_names.read(self.api))  # type: ignore[arg-type]

    def named(self) -> str:
        """The name in the controller's kubeconfig; "" if there is none."""
        found = self.files.get(names.KUBECONFIG)
        return found[2].decode().partition(" ")[0] if found else ""

    # --- a run

    def begin(self, task: str, looked: bool = True, undoes: str = "") -> None:
        """A run starts; `looked`: whether it reads the state of DWS."""
        self.runs += 1
        self.run = f"r{self.runs:03}"
        found = {installed.FACT.name: {MASTER: self.now()}} if looked else {}
        record = before_images.installed_before({installed.FACT.name: installed.CHECK}, Facts(found))
        before_images.record_begin(self._reach(), self.run, task, undoes, record)

    def _reach(self) -> Reach:
        return Reach(lambda host: _Master(self.on_master), lambda: self.api, lambda role: MASTER)

    def _at(self, key: str) -> StepReporter:
        stage, _, step = key.partition(".")
        return StepReporter(self.run, MASTER, stage, step, lambda event: None)

    def __call__(self, *_: Any) -> None:
        """Count a change, before which a run may be interrupted."""
        if self.cut is not None and self.changes >= self.cut:
            raise Cut
        self.changes += 1

    def objects(self, key: str, wanted: Mapping[str, Object | None]) -> None:
        """A step applies these objects (None: deletes them), with the records of a real step."""
        self()
        at, paths = self._at(key), list(wanted)
        before_images.keep(self._reach(), at, paths)
        for path, item in wanted.items():
            self()
            if item is None:
                self.api.objects.pop(path, None)
            else:
                self.api.write(path, item)
        self()
        before_images.record_result(self._reach(), at, paths)

    def script_begins(self, key: str) -> None:
        """A step's script begins on the master."""
        self()
        self.on_master.setdefault(self.run, {}).setdefault(".record", []).append(f"step {key}")

    def put(self, path: str, content: bytes | None, mode: str = "644", owner: str = "root:root") -> None:
        """A file of the controller is replaced or removed, with a before-image."""
        have = self.files.get(path)
        if (have[2] if have else None) == content:
            return
        self()
        record = self.on_controller.setdefault(self.run, {})
        record.setdefault("image", [])
        if not any(line.endswith(f" {path}") for line in record["image"]):
            record["image"] += self._image(path, have)
        record.setdefault("left", []).append(f"left {self.run} {_sum(content)} {path}")
        record.setdefault("step", []).append("plugin.file")
        self()
        if content is None:
            self.files.pop(path)
        else:
            self.files[path] = (mode, owner, content)

    def _image(self, path: str, have: tuple[str, str, bytes] | None) -> list[str]:
        if have is None:
            return [f"absent {self.run} {path}"]
        mode, owner, content = have
        shown = "?" if path == names.KUBECONFIG else base64.b64encode(content).decode()
        lines = [f"image {self.run} {mode} {owner} {_sum(content)} {shown} {path}"]
        if path == names.KUBECONFIG:
            pem = base64.b64encode(self.certificate(content.decode().partition(" ")[0])).decode()
            lines.insert(0, f"certificate {self.run} {pem} {path}")
        return lines

    # --- the tasks

    def install(self, version: str) -> None:
        """`invoke install` with this version in the site file."""
        self.begin("install")
        self.replace(version)
        if by_hand(version):
            self._wish("access.role", {f"{RBAC}/clusterroles/{names.ROLE}": _object("ClusterRole", names.ROLE)})
        self.bind(version, {self.own()})
        self.put(LUA, b"lua")
        self.put(PLUGIN_CONF, b"conf")
        self.kubeconfig()
        self.put(CONF, ENABLED)

    def replace(self, version: str) -> None:
        """Remove another version of DWS, and install this one."""
        there = self.now()
        if there["unfinished"] or there["tag"] not in ("", version):
            self.remove("replace")
        self._wish("deploy.applied", dws(version))

    def _wish(self, key: str, wanted: Mapping[str, Object]) -> None:
        have = self.api.state()
        if odd := {path: item for path, item in wanted.items() if have.get(path) != item}:
            self.script_begins(key)
            self.objects(key, odd)

    def remove(self, stage: str) -> None:
        """DWS is undeployed: marked meanwhile, its namespace stays."""
        there = self.now()
        space = _object("Namespace", names.NAMESPACE)
        mark = {installed.UNFINISHED: there["tag"] or there["unfinished"] or "of an unknown version"}
        if there["namespace"]:
            self.objects(
                f"{stage}.removed",
                {installed.NAMESPACE: {**space, "metadata": {**space["metadata"], "annotations": mark}}},
            )
        self.script_begins(f"{stage}.removed")
        every = {**dws("0.0.1"), **dws("0.1.1")}
        for path in [path for path in every if path in self.api.objects and path != installed.NAMESPACE]:
            self()
            del self.api.objects[path]
        if there["namespace"]:
            self.objects(f"{stage}.removed", {installed.NAMESPACE: space})

    def own(self) -> str:
        """The site file's name for the plugin."""
        return self.site.access.common_name

    def bind(self, version: str, subjects: set[str]) -> None:
        """The plugin's binding, to the role of this version."""
        wanted = self.binding(role_of(version), subjects)
        have = self.api.state().get(former_state.BINDING)
        if have == wanted:
            return
        if have and have["roleRef"] != wanted["roleRef"]:
            self.objects("access.binding", {former_state.BINDING: None})
        self.objects("access.binding", {former_state.BINDING: wanted})

    def binding(self, role: str, subjects: set[str]) -> Object:
        """The plugin's binding as an object."""
        users = [{"kind": "User", "name": name} for name in sorted(subjects)]
        return {**_object("ClusterRoleBinding", names.BINDING), "roleRef": {"name": role}, "subjects": users}

    def kubeconfig(self, anew: bool = False) -> None:
        """Give the controller a kubeconfig for the site file's name; `anew`: also if it has one."""
        if anew or self.named() != self.own():
            self.put(names.KUBECONFIG, f"{self.own()} key{self.run}".encode(), "600", "slurm:slurm")

    def rotate(self) -> None:
        """`invoke certs.rotate`: it does not read the state of DWS."""
        self.begin("certs.rotate", looked=False)
        self.kubeconfig(anew=True)

    def revoke(self) -> None:
        """`invoke certs.revoke` with a new name in the site file."""
        old = self.own()
        self.site = replace(self.site, access=replace(self.site.access, common_name=f"slurm-{self.runs}"))
        self.begin("certs.revoke", looked=False)
        role = self.api.objects[former_state.BINDING]["roleRef"]["name"]
        data = dict.fromkeys({*self.revoked(), old}, "2030-01-01 revoked")
        self.objects(
            "access.recorded", {revoked_names.PATH: {**_object("ConfigMap", revoked_names.NAME), "data": data}}
        )
        self.objects("access.binding", {former_state.BINDING: self.binding(role, {old, self.own()})})
        self.kubeconfig()
        self.objects("access.old-subjects", {former_state.BINDING: self.binding(role, {self.own()})})

    def undeploy(self, slurm: bool) -> None:
        """`invoke undeploy`, with --slurm or not."""
        self.begin("undeploy")
        if slurm:
            self.put(CONF, PLAIN)
            for path in (LUA, PLUGIN_CONF, names.KUBECONFIG):
                self.put(path, None)
        now = self.now()
        if now["traces"] or now["crds"] or now["unfinished"]:
            self.remove("undeploy")

    # --- rollback

    def history(self) -> list[PastRun]:
        """The runs that the hosts know."""
        master: list[str] = []
        for run, record in self.on_master.items():
            master += [f"opened {run} {line}" for line in record.get(".opened", ())]
            master += [f"step {run} {line.removeprefix('step ')}" for line in record.get(".record", ())]
            recorded = [json.loads(line) for line in record.get(".objects", ())]
            master += [f"step {run} {record_['step']}" for record_ in recorded if "step" in record_]
        there = [f"step {run} {step}" for run, record in self.on_controller.items() for step in record.get("step", ())]
        runs = past_runs.from_records(MASTER, {MASTER: master, CONTROLLER: there})
        return past_runs.joined({}, runs)

    def goal(self, run: str) -> RollbackTarget:
        """The target of a rollback of `run`."""
        every = self.history()
        known = rollback_target.AccessNow(self.ca, self.api.get(former_state.BINDING), self.revoked())
        lines = {MASTER: self._chain(run), CONTROLLER: self._images(run)}
        trails = {host: parse_host_record(printed) for host, printed in lines.items()}
        wanted = next(known for known in every if known.id == run)
        roles = {"master": (MASTER,), "controller": (CONTROLLER,)}
        return rollback_target.target(self.site, wanted, every, roles, trails, self.now(), known)[0]

    def _chain(self, first: str) -> list[str]:
        return [
            f"object {run} {line}"
            for run, record in sorted(self.on_master.items())
            if run >= first
            for line in record.get(".objects", ())
        ]

    def _images(self, first: str) -> list[str]:
        text = base64.b64encode(self.files[CONF][2]).decode()
        every = [record for run, record in sorted(self.on_controller.items()) if run >= first]
        return [
            f"conf {text}",
            *(line for record in every for key in ("image", "left") for line in record.get(key, ())),
        ]

    def rollback(self, run: str) -> None:
        """`invoke rollback RUN --yes`. Raises Refused, and former_state.HalfRemoved where half of DWS had been there."""
        goal = self.goal(run)
        self._refuse(goal)
        if not self._due(goal):
            return
        self.begin("rollback", undoes=run)
        parts = [self._cluster_back, self._files_back]
        for part in parts if all(goal.enabled.values()) else parts[::-1]:
            part(goal)

    def _refuse(self, goal: RollbackTarget) -> None:
        check = unchanged.cluster_objects(goal)
        place = StepContext(self.site, Facts({}), MASTER)
        look = check.look(place)
        have = look.read(self.api) if isinstance(look, ApiLook) else {}  # type: ignore[arg-type]
        if found := check.judge(place, have):
            raise Refused(found)
        for path, file in goal.files.get(CONTROLLER, {}).items():
            if _sum(self.files[path][2] if path in self.files else None) not in file.left:
                raise Refused(path)

    def _due(self, goal: RollbackTarget) -> bool:
        """Whether there is anything to do: otherwise no run starts."""
        sums = {path: _sum(self.files[path][2] if path in self.files else None) for path in goal.files[CONTROLLER]}
        odd = any(sums[path] != file.sum for path, file in goal.files[CONTROLLER].items())
        anew = goal.renew and self.named() != self.own()
        dws_odd = goal.dws == "remove" or (goal.dws == "install" and self._odd(goal.version))
        return odd or anew or dws_odd or bool(self._object_actions(goal.things))

    def _odd(self, version: str) -> bool:
        """Whether this version of DWS, and no other, is not completely installed."""
        have, there = self.api.state(), self.now()
        lacks = any(have.get(path) != item for path, item in dws(version).items())
        return lacks or there["tag"] != version or bool(there["unfinished"])

    def _object_actions(self, things: Sequence[ObjectSnapshot]) -> Sequence[Action]:
        step = objects.step(things, "objects", self.run)
        place = StepContext(self.site, Facts({}), MASTER)
        look = step.look(place)
        assert isinstance(look, ApiLook) and step.read and step.change
        found = look.read(self.api)  # type: ignore[arg-type]
        have, want = step.read(place, found), step.want(place)
        facts = Facts({"objects.objects": {MASTER: found}})
        return step.change(replace(place, facts=facts), have, want) if have != want else ()

    def _cluster_back(self, goal: RollbackTarget) -> None:
        if goal.dws == "remove":
            self.remove("undeploy")
        elif goal.dws == "install":
            self.replace(goal.version)
        for action in self._object_actions(goal.things):
            self._object_back(action)

    def _object_back(self, action: Action) -> None:
        if isinstance(action, Delete):
            self.objects("objects.objects", {action.path: None})
            return
        assert isinstance(action, RunScript)
        (path,) = action.objects
        self.script_begins("objects.objects")
        self.objects("objects.objects", {path: kube_objects.normal(json.loads(action.data))})

    def _files_back(self, goal: RollbackTarget) -> None:
        if goal.renew:
            self.kubeconfig()
        for path, file in goal.files[CONTROLLER].items():
            if file.sum == ABSENT:
                self.put(path, None)
            else:
                self.put(
                    path, file.text if file.text is not None else self._kept(file.run, path), file.mode, file.owner
                )

    def _kept(self, run: str, path: str) -> bytes:
        """A kubeconfig's before-image, whose content only the host knows."""
        (line,) = [
            line for line in self.on_controller[run]["image"] if line.endswith(f" {path}") and line[:5] == "image"
        ]
        return _CONTENTS[line.split(" ")[4]]


class _Master:
    """The master's session, as before_images.py uses it to append records."""

    def __init__(self, records: dict[str, dict[str, list[str]]]) -> None:
        self.records = records

    def run(self, script: str, data: bytes = b"", deadline: float = 0.0, line: object = None) -> Result:
        """Append to the file that the script names."""
        found = re.search(r"before/(r[0-9]+)", script)  # the fence names the folder of the run before, too
        name = next(record for record in (".opened", ".objects") if record in script)
        assert found is not None
        self.records.setdefault(found[1], {}).setdefault(name, []).extend(data.decode().splitlines())
        return Result(b"", b"", 0, 0.0)


_CONTENTS: dict[str, bytes] = {}


def _sum(content: bytes | None) -> str:
    if content is None:
        return ABSENT
    digest = hashlib.sha256(content).hexdigest()
    _CONTENTS[digest] = content
    return digest
