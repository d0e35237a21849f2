"""A slurmctld in a pod: what of it can be made lasting, and the volume that shows it the kubeconfig."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.config.load import load
from dws_on_csm.domain import managers
from dws_on_csm.model import render
from dws_on_csm.model.step import Facts, Finding, NotYetKnown, StepContext
from dws_on_csm.stages.pod import discover, host_kubectl, mount, rollout
from dws_on_csm.stages.slurm import controller, pod_checks
from tests.unit.site_files import write

NAME = "slurmctld"


@pytest.fixture
def place(tmp_path: Path) -> StepContext:
    """The controller of a site whose slurmctld runs in a pod."""
    site = load(write(tmp_path, "master: {host: m}\ncontrollers: [{pod: {}}]\n"))
    return StepContext(site, Facts(), NAME)


CONFIG_VOLUME: dict[str, Any] = {"name": "conf", "configMap": {"name": "slurm-conf", "defaultMode": 420}}
BOTH: dict[str, Any] = {
    "name": "conf",
    "projected": {
        "defaultMode": 420,
        "sources": [
            {"configMap": {"name": "slurm-conf"}},
            {
                "secret": {
                    "name": "slurmctld-slurm-dws",
                    "items": [{"key": "kubeconfig", "path": "slurm-dws.kubeconfig", "mode": 0o444}],
                    "optional": True,
                }
            },
        ],
    },
}


class Cluster:
    """A fake of the API: objects by path."""

    def __init__(self, objects: dict[str, Any]) -> None:
        self.objects = objects

    def get(self, path: str, **query: str) -> Any:
        return self.objects.get(path)


APPS = "/apis/apps/v1/namespaces/user"


def owned(kind: str, name: str) -> dict[str, Any]:
    return {"ownerReferences": [{"kind": kind, "name": name, "controller": True}]}


def deployment(volume: dict[str, Any] | None, mount: dict[str, Any] | None = None, **meta: Any) -> dict[str, Any]:
    mounts = [{"name": "conf", "mountPath": "/etc/slurm", **(mount or {})}] if volume else []
    spec = {"containers": [{"name": NAME, "volumeMounts": mounts}], "volumes": [volume] if volume else []}
    return {
        "metadata": {"name": NAME, "namespace": "user", **meta},
        "spec": {"strategy": {"type": "Recreate"}, "template": {"metadata": {}, "spec": spec}},
    }


def objects(
    made: dict[str, Any], config: dict[str, Any] | None = None, owner: tuple[str, str] = ("ReplicaSet", "rs")
) -> dict[str, Any]:
    """A cluster with a pod of that Deployment."""
    one = {
        "metadata": {"name": "slurmctld-1", **owned(*owner)},
        "spec": made["spec"]["template"]["spec"],
        "status": {"phase": "Running"},
    }
    return {
        "/api/v1/namespaces/user/pods": {"items": [one]},
        f"{APPS}/replicasets/rs": {"metadata": {"name": "rs", **owned("Deployment", NAME)}},
        f"{APPS}/deployments/{NAME}": made,
        "/api/v1/namespaces/user/configmaps/slurm-conf": config
        or {"metadata": {"name": "slurm-conf"}, "data": {"slurm.conf": ""}},
    }


def seen(place: StepContext, there: dict[str, Any]) -> Any:
    wanted = discover.pod_of(place)
    assert wanted is not None
    return discover.read(Cluster(there), wanted)  # type: ignore[arg-type]


HELM = {"annotations": {"meta.helm.sh/release-name": "slurm"}}
OWNED = {"ownerReferences": [{"kind": "Slurm", "name": "slurm"}]}
DATA = {"slurm.conf": ""}
SERVICES = "/api/v1/namespaces/services/configmaps"


def jobs(name: str, templates: str, namespace: str = "services") -> dict[str, Any]:
    """A Job that mounts a ConfigMap."""
    spec = {"volumes": [{"name": "t", "configMap": {"name": templates}}]}
    job = {
        "metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"template": {"spec": spec}},
    }
    return {f"/apis/batch/v1/namespaces/{namespace}/jobs": {"items": [job]}}


TEMPLATES = {
    f"{SERVICES}/slurm-config-templates": {"metadata": {}, "data": {"slurm.conf": ""}},
    **jobs("slurm-config", "slurm-config-templates"),
}
SUBPATH = {"mountPath": "/etc/slurm/slurm.conf", "subPath": "slurm.conf"}


@pytest.mark.parametrize(
    ("there", "names"),
    [
        (objects(deployment(CONFIG_VOLUME)), []),
        (objects(deployment(BOTH)), []),
        (objects(deployment(None)), ["pod-folder"]),
        (objects(deployment({"name": "conf", "emptyDir": {}})), ["pod-folder"]),
        (objects(deployment({"name": "conf", "hostPath": {"path": "/etc/slurm"}})), ["pod-folder"]),
        (objects(deployment(CONFIG_VOLUME), {"metadata": {}, "data": {"other": ""}}), ["pod-folder"]),
        (objects(deployment(CONFIG_VOLUME, SUBPATH)), ["pod-subpath"]),
        (objects(deployment(CONFIG_VOLUME, SUBPATH), {"metadata": HELM, "data": DATA}), ["pod-subpath", "pod-kept"]),
        (objects(deployment(CONFIG_VOLUME, **HELM)), ["pod-kept"]),
        (objects(deployment(CONFIG_VOLUME, **owned("Controller", "slurm"))), ["pod-kept"]),
        (objects(deployment(CONFIG_VOLUME), {"metadata": HELM, "data": DATA}), ["pod-kept"]),
        (objects(deployment(CONFIG_VOLUME), {"metadata": OWNED, "data": DATA}), ["pod-kept"]),
        (objects(deployment(CONFIG_VOLUME), {"metadata": {}, "data": DATA, "immutable": True}), ["pod-immutable"]),
        (objects(deployment(CONFIG_VOLUME)) | TEMPLATES, []),
        (objects(deployment(CONFIG_VOLUME), {"metadata": HELM, "data": DATA}) | TEMPLATES, []),
        (objects(deployment(CONFIG_VOLUME, **HELM)) | TEMPLATES, ["pod-kept"]),
        (objects(deployment(BOTH, **HELM)) | TEMPLATES, []),
        (objects(deployment(CONFIG_VOLUME)) | TEMPLATES | jobs("slurm-config", "other"), ["pod-generated"]),
        (objects(deployment(CONFIG_VOLUME)) | TEMPLATES | jobs("slurm-config-import", "slurm-config-templates"), ["pod-generated"]),
        (objects(deployment(CONFIG_VOLUME), owner=("Job", "once")), ["pod-workload"]),
    ],
)  # fmt: skip
def test_changes_that_would_not_last_are_refused(place: StepContext, there: dict[str, Any], names: list[str]) -> None:
    """By name, and with the place to change it."""
    found = list(pod_checks.judge(place, seen(place, there)))
    assert [one.name for one in found] == names
    assert all(one.fix for one in found)


def mounted(volumes: Sequence[dict[str, Any]], mounts: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A cluster whose slurmctld has these volumes beside its configuration."""
    made = deployment(CONFIG_VOLUME)
    spec = made["spec"]["template"]["spec"]
    spec["containers"][0]["volumeMounts"] += mounts
    spec["volumes"] += volumes
    spec.update(more)
    return objects(made)


CLAIM = {"name": "s", "persistentVolumeClaim": {"claimName": "slurm-state"}}
EMPTY = {"name": "s", "emptyDir": {"medium": "Memory"}}
ON_NODE = {"name": "s", "hostPath": {"path": "/var/lib/slurm"}}
SHARED = {"name": "s", "nfs": {"server": "h", "path": "/slurm"}}
ABOVE = {"name": "s", "mountPath": "/var/lib"}
AT = {"name": "s", "mountPath": "/var/lib/slurm/state/"}
HOST = "kubernetes.io/hostname"


@pytest.mark.parametrize(
    ("there", "conf", "names"),
    [
        (mounted([CLAIM], [AT]), "StateSaveLocation=/var/lib/slurm/state", []),
        (mounted([CLAIM], [ABOVE | {"subPath": "a"}]), "StateSaveLocation=/var/lib/slurm/state", []),
        (mounted([SHARED], [AT]), "statesavelocation = /var/lib/slurm/state/", []),
        (mounted([EMPTY], [AT]), "StateSaveLocation=/var/lib/slurm/state", ["pod-state-lost"]),
        (mounted([CLAIM], [AT]), "StateSaveLocation=/var/lib/slurm/state2", ["pod-state-lost"]),
        (mounted([CLAIM], [AT]), "", ["pod-state-lost"]),
        (mounted([], []), "StateSaveLocation=/var/lib/slurm/state", ["pod-state-lost"]),
        (
            mounted([CLAIM, EMPTY | {"name": "t"}], [ABOVE, AT | {"name": "t"}]),
            "StateSaveLocation=/var/lib/slurm/state",
            ["pod-state-lost"],
        ),
        (
            mounted([EMPTY | {"name": "t"}, CLAIM], [ABOVE | {"name": "t"}, AT]),
            "StateSaveLocation=/var/lib/slurm/state/one",
            [],
        ),
        (mounted([ON_NODE], [AT]), "StateSaveLocation=/var/lib/slurm/state", ["pod-state-on-node"]),
        (mounted([ON_NODE], [AT], nodeSelector={HOST: "w1"}), "StateSaveLocation=/var/lib/slurm/state", []),
        (
            mounted([ON_NODE], [AT], nodeSelector={"disk": "fast"}),
            "StateSaveLocation=/var/lib/slurm/state",
            ["pod-state-on-node"],
        ),
    ],
)
def test_what_would_lose_all_jobs_is_refused(
    place: StepContext, there: dict[str, Any], conf: str, names: list[str]
) -> None:
    """Slurm's state has to outlive the pod, since an install needs a new one: else every job of everybody is forgotten."""
    file = place.site.slurm.conf
    place.facts.found["preflight.controller"] = {NAME: {"files": {file: f"ClusterName=x\n{conf}\n"}}}
    found = pod_checks.judge(place, seen(place, there))
    assert [one.name for one in found] == names
    assert all("StateSaveLocation" in one.text for one in found)


@pytest.mark.parametrize(
    ("meta", "keeper"),
    [
        ({}, ""),
        ({"labels": {"app.kubernetes.io/instance": "slurm"}, "annotations": {"note": "by hand"}}, ""),
        ({"labels": None, "annotations": None, "managedFields": [{"manager": "kubectl-edit"}, {}]}, ""),
        (HELM, "Helm release slurm"),
        ({"labels": {"app.kubernetes.io/managed-by": "Helm"}}, "Helm"),
        ({**HELM, "labels": {"helm.toolkit.fluxcd.io/name": "wlm"}}, "Flux HelmRelease wlm"),
        ({"labels": {"kustomize.toolkit.fluxcd.io/name": "site"}}, "Flux Kustomization site"),
        ({"annotations": {"argocd.argoproj.io/tracking-id": "wlm:/ConfigMap:user/c"}}, "Argo CD application wlm"),
        ({"labels": {"argocd.argoproj.io/instance": "wlm"}}, "Argo CD application wlm"),
        ({"managedFields": [{"manager": "argocd-controller"}]}, "Argo CD"),
    ],
)  # fmt: skip
def test_who_keeps_an_object_is_read_from_its_marks(meta: dict[str, Any], keeper: str) -> None:
    """Helm, Flux and Argo CD each have their own, with the name under which the change is to be made."""
    assert managers.managed_by(meta) == keeper


@pytest.mark.parametrize(
    "there",
    [
        objects(deployment(None)),
        objects(deployment({"name": "conf", "emptyDir": {}})),
        objects(deployment(CONFIG_VOLUME, SUBPATH)),
        objects(deployment(CONFIG_VOLUME), owner=("Job", "once")),
    ],
)
def test_a_refused_change_is_not_planned_further(place: StepContext, there: dict[str, Any]) -> None:
    """Without a volume, a ConfigMap or a workload it isn't known what would be mounted where, and a plan says that."""
    found = seen(place, there)
    kubeconfig = {"slurm_uid": "64030", "slurm_group": "1"}
    spot = replace(place, facts=Facts({discover.FACT.name: {NAME: found}, "access.kubeconfig": {NAME: kubeconfig}}))
    with pytest.raises(NotYetKnown):
        mount.wanted_volume(spot)
        rollout.side_effect(spot)


def test_a_finding_names_what_has_to_be_where(place: StepContext) -> None:
    """Whoever keeps the objects is told each key and the volume."""
    (found,) = pod_checks.judge(place, seen(place, objects(deployment(CONFIG_VOLUME, **HELM))))
    assert "Helm release slurm" in found.text
    for word in (
        "burst_buffer.lua",
        "burst_buffer.conf",
        "BurstBufferType",
        "slurm-conf",
        "slurmctld-slurm-dws",
        "namespace user",
    ):
        assert word in found.fix


def wanted(place: StepContext, volume: dict[str, Any], user: str = "64030", group: str = "64030") -> Any:
    have = {**seen(place, objects(deployment(volume))), "group": "64030"}
    facts = Facts(
        {discover.FACT.name: {NAME: have}, "access.kubeconfig": {NAME: {"slurm_uid": user, "slurm_group": group}}}
    )
    return mount.wanted_volume(replace(place, facts=facts))


@pytest.mark.parametrize(
    ("user", "group", "mode"), [("0", "0", 0o400), ("64030", "64030", 0o440), ("64030", "1", 0o444)]
)
def test_the_kubeconfig_is_as_closed_as_slurm_user_allows(place: StepContext, user: str, group: str, mode: int) -> None:
    """Root's where it can be, the fsGroup's where SlurmUser is in it, or else everybody's in the pod."""
    secret = wanted(place, CONFIG_VOLUME, user, group)["projected"]["sources"][1]["secret"]
    assert secret["items"] == [{"key": "kubeconfig", "path": "slurm-dws.kubeconfig", "mode": mode}]


def test_a_volume_that_has_both_is_left_as_it_is(place: StepContext) -> None:
    """Nothing is rolled out for what is mounted already."""
    assert wanted(place, BOTH, group="1") == BOTH
    assert wanted(place, CONFIG_VOLUME, group="1") == BOTH


def test_a_volume_that_lists_its_files_lists_the_plugins_too(place: StepContext) -> None:
    """A key that isn't listed is not shown in the pod."""
    items = [{"key": "slurm.conf", "path": "slurm.conf"}]
    listing = {"name": "conf", "configMap": {"name": "slurm-conf", "items": items}}
    own, plugin = (one["configMap"] for one in wanted(place, listing)["projected"]["sources"][:2])
    assert own == {"name": "slurm-conf", "items": items}
    assert [one["path"] for one in plugin["items"]] == ["burst_buffer.lua", "burst_buffer.conf"]
    assert plugin["optional"]  # the keys come later, and go earlier: a pod whose volume lacks one does not start


# --- edits on the master

KUBECTL = """#!{python}
import json, pathlib, sys
words = sys.argv[1:]
folder = pathlib.Path({folder!r})
if "get" in words:
    print((folder / words[words.index("get") + 1].replace("/", "_")).read_text())
else:
    made = json.load(sys.stdin)
    if made["metadata"]["name"] == "stubborn":
        sys.exit("conflict")
    made["metadata"]["resourceVersion"] = str(int(made["metadata"].get("resourceVersion", 7)) + 1)
    (folder / made["kind"]).write_text(json.dumps(made))
"""


@pytest.fixture
def edit(tmp_path: Path) -> Any:
    """edit(OBJECTS, EDITS) -> exit code, and the objects afterwards; kubectl is a fake that keeps files."""
    program = tmp_path / "kubectl"
    program.write_text(KUBECTL.format(python=sys.executable, folder=str(tmp_path)))
    program.chmod(0o755)

    def run(there: dict[str, Any], edits: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        for name, one in there.items():
            (tmp_path / name.replace("/", "_")).write_text(json.dumps({**one, "kind": name.replace("/", "_")}))
        (tmp_path / "edits").write_text(json.dumps(edits))
        script = render.TEMPLATES / "pod/pod_edit.py"
        done = subprocess.run([sys.executable, str(script), str(tmp_path / "edits"), "user", str(program)], check=False)
        return done.returncode, {name: json.loads((tmp_path / name.replace("/", "_")).read_text()) for name in there}

    return run


def thing(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": "7"}, **more}


def test_edits_reach_what_they_name(edit: Any) -> None:
    """A key of a ConfigMap, one of several volumes, an annotation where there were none."""
    there = {
        "configmap/c": thing("c", data={"slurm.conf": "old", "other": "x"}),
        "deployment/d": thing("d", spec={"volumes": [{"name": "a"}, {"name": "b"}], "metadata": {}}),
    }
    edits = [
        {"object": "configmap/c", "at": ["data", "slurm.conf"], "seen": "old", "value": "new"},
        {
            "object": "deployment/d",
            "at": ["spec", "volumes", {"name": "b"}],
            "seen": {"name": "b"},
            "value": {"name": "b", "x": 1},
        },
        {"object": "deployment/d", "at": ["spec", "metadata", "annotations", "k"], "seen": "*", "value": "v"},
    ]
    code, after = edit(there, edits)
    assert code == 0
    assert after["configmap/c"]["data"] == {"slurm.conf": "new", "other": "x"}
    assert after["deployment/d"]["spec"] == {
        "volumes": [{"name": "a"}, {"name": "b", "x": 1}],
        "metadata": {"annotations": {"k": "v"}},
    }


def test_a_kubectl_that_says_too_much_is_ended(tmp_path: Path) -> None:
    """What the master's memory has to hold has a bound, and words say what is wrong."""
    (tmp_path / "edits").write_text(
        json.dumps([{"object": "configmap/c", "at": ["data", "k"], "seen": "1", "value": "2"}])
    )
    command = [
        sys.executable,
        str(render.TEMPLATES / "pod/pod_edit.py"),
        str(tmp_path / "edits"),
        "user",
        "/usr/bin/yes",
    ]
    limited = ["sh", "-c", 'ulimit -v 500000; exec "$@"', "sh", *command, "--"]
    done = subprocess.run(limited, capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 1 and "kubectl --output printed more than 16 MB" in done.stdout


def test_a_meanwhile_changed_object_stays(edit: Any) -> None:
    """All edits or none: the first object stays too."""
    there = {"configmap/a": thing("a", data={"k": "1"}), "configmap/b": thing("b", data={"k": "other"})}
    edits = [{"object": name, "at": ["data", "k"], "seen": "1", "value": "2"} for name in there]
    code, after = edit(there, edits)
    assert (code, after["configmap/a"]["data"], after["configmap/b"]["data"]) == (3, {"k": "1"}, {"k": "other"})


def test_a_write_that_fails_takes_the_ones_before_it_back(edit: Any) -> None:
    """The API server may refuse the second object."""
    there = {"configmap/a": thing("a", data={"k": "1"}), "configmap/b": thing("stubborn", data={"k": "1"})}
    edits = [{"object": name, "at": ["data", "k"], "seen": "1", "value": "2"} for name in there]
    code, after = edit(there, edits)
    assert (code, after["configmap/a"]["data"]) == (1, {"k": "1"})


# --- the worker's kubectl

PATH = "/usr/local/sbin:/usr/local/bin:/usr/bin"
LACKS = {"kubectl": "", "path": PATH}


def agreed(place: StepContext, tmp_path: Path, kubectl: str = "hostPath") -> StepContext:
    """The same place where the site file allows the mount."""
    site = load(write(tmp_path, f"master: {{host: m}}\ncontrollers: [{{pod: {{kubectl: {kubectl}}}}}]\n"))
    return replace(place, site=site)


def known(place: StepContext, made: dict[str, Any], lacks: dict[str, Any] | None = None) -> StepContext:
    """The place with what the first looks found of this Deployment's pod."""
    facts: Any = {
        "preflight.pod": {NAME: seen(place, objects(made))},
        "preflight.controller": {NAME: LACKS if lacks is None else lacks},
        "preflight.cluster": {"m": {"kubernetes": "v1.33.1+x"}},
        "access.kubeconfig": {NAME: {"slurm_uid": "1", "slurm_group": "1"}},
    }
    return replace(place, facts=Facts(facts))


def missing(place: StepContext) -> Sequence[Finding]:
    """The findings about kubectl."""
    return controller.kubectl_findings(place, controller.state(place))


def edited(made: dict[str, Any], edits: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The Deployment after these edits, as the program on the master makes them."""
    program: dict[str, Any] = {}
    exec(render.read("pod/pod_edit.py").removesuffix("main(*sys.argv[1:])\n"), program)  # noqa: S102 - ours
    after: dict[str, Any] = json.loads(json.dumps(made))
    for edit in edits:
        program["change"](after, edit)
    return after


def changed(place: StepContext, made: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
    """What the step `mount` does with it: its title, and the Deployment that results."""
    done: list[tuple[str, Any]] = []
    monkeypatch.setattr(rollout, "action", lambda ctx, title, edits: done.append((title, edits)))
    mount.change_mount(place, None, None)
    ((title, edits),) = done
    return title, edited(made, edits)


def test_the_workers_kubectl_is_mounted_read_only_where_the_image_has_none(
    place: StepContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a file, in a folder of slurmctld's PATH, in one rollout with the Secret; then nothing differs any more, and an undeploy
    takes it away and leaves everything else."""
    made = deployment(CONFIG_VOLUME)
    here = known(agreed(place, tmp_path), made)
    assert missing(here) == ()
    title, after = changed(here, made, monkeypatch)
    assert title.startswith("mount the worker's kubectl as /usr/local/bin/kubectl, and Secret slurmctld-slurm-dws")
    spec = after["spec"]["template"]["spec"]
    volume = {"name": "dws-on-csm-kubectl", "hostPath": {"path": "/usr/bin/kubectl", "type": "File"}}
    assert [entry["name"] for entry in spec["volumes"]] == ["conf", volume["name"]] and volume in spec["volumes"]
    mounted = {"name": "dws-on-csm-kubectl", "mountPath": "/usr/local/bin/kubectl", "readOnly": True}
    assert spec["containers"][0]["volumeMounts"] == [{"name": "conf", "mountPath": "/etc/slurm"}, mounted]
    later = known(here, after)
    assert mount.STEP.want(later) == mount.read_mount(later, discover.state(later))  # also if the key goes
    without = known(agreed(place, tmp_path, "image"), after)
    assert mount.STEP.want(without) == mount.read_mount(without, discover.state(without))
    state = discover.state(later)
    back = edited(after, host_kubectl.edits(later, state, ""))["spec"]["template"]["spec"]
    assert back["containers"] == made["spec"]["template"]["spec"]["containers"]
    assert [entry["name"] for entry in back["volumes"]] == ["conf"]


def test_undoing_the_mount_leaves_what_others_added_meanwhile(place: StepContext, tmp_path: Path) -> None:
    """A rollout that failed is undone while a colleague has added a volume, its mount, and a container."""
    made = deployment(CONFIG_VOLUME)
    here = known(agreed(place, tmp_path), made)
    edits = host_kubectl.edits(here, discover.state(here), "/usr/bin/kubectl")
    after = edited(made, edits)
    spec = after["spec"]["template"]["spec"]
    spec["volumes"].append({"name": "state"})
    spec["containers"][0]["volumeMounts"].append({"name": "state", "mountPath": "/state"})
    spec["containers"].append({"name": "beside", "volumeMounts": [{"name": "state", "mountPath": "/s"}]})
    theirs = json.loads(json.dumps(spec))
    back = edited(after, [rollout.reversed_edit(edit, "x") for edit in edits])["spec"]["template"]["spec"]
    mine = "dws-on-csm-kubectl"
    theirs["volumes"] = [entry for entry in theirs["volumes"] if entry["name"] != mine]
    mounts = theirs["containers"][0]["volumeMounts"]
    theirs["containers"][0]["volumeMounts"] = [entry for entry in mounts if entry["name"] != mine]
    assert back == theirs


def test_where_the_workers_kubectl_is_not_mounted(place: StepContext, tmp_path: Path) -> None:
    """Without the key, in a template that others manage, and where the image has one; the finding has the image's missing line."""
    made = deployment(CONFIG_VOLUME)
    line = "ADD --chmod=0755 https://dl.k8s.io/release/v1.33.1/bin/linux/amd64/kubectl /usr/local/bin/kubectl"
    (finding,) = missing(known(place, made))
    assert finding.name == "kubectl-missing" and line in finding.fix and "set kubectl: hostPath" in finding.fix
    managed = known(agreed(place, tmp_path), deployment(CONFIG_VOLUME, **HELM))
    (finding,) = missing(managed)
    assert "hostPath has no effect here: Deployment slurmctld is managed by Helm release slurm" in finding.text
    assert line in finding.fix and "hostPath" not in finding.fix
    assert host_kubectl.wanted(managed) == ""
    assert (
        host_kubectl.wanted(known(agreed(place, tmp_path), made, {"kubectl": "/usr/bin/kubectl", "path": PATH})) == ""
    )
