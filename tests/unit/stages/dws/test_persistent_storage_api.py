"""The removal's script against a real API server with the fake DWS: it closes DWS, checks again, saves, restores."""

from __future__ import annotations

import json
import shlex
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from dws_on_csm.domain import dws_objects, names
from dws_on_csm.model.actions import CallApi, RunScript
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.stages.dws import closing, installed, kept_configuration, persistent_storage, remove
from dws_on_csm.stages.slurm import close_dws
from tests.unit import loopback_cluster
from tests.unit.loopback_cluster import Cluster
from tests.unit.stages.dws.test_persistent_storage import CONFIG, IDLE, RULE, a_place, a_psi, some_servers

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]

WORKFLOW = """
apiVersion: dataworkflowservices.github.io/v1alpha2
kind: Workflow
metadata: {{name: {name}, namespace: default}}
spec: {{desiredState: Proposal, dwDirectives: [], wlmID: slurm, jobID: "1", userID: 1000, groupID: 1000}}
"""

OWN = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": names.NAMESPACE}}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with loopback_cluster.running(tmp_path_factory.mktemp("cluster")) as running:
        yield running


class Api:
    """That API as steps see it, by way of kubectl."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def get(self, path: str, **query: str) -> Any:
        """What is at a path; None where nothing is."""
        done = self.cluster.kubectl("get", "--raw", path)
        if done.returncode and "NotFound" not in done.stderr:
            raise ClusterError(500, done.stderr)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def create(self, path: str, body: Mapping[str, Any], **query: str) -> Any:
        """A new object."""
        return self._done("create", "--raw", path, "-f", "-", stdin=json.dumps(body))

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """A merge patch."""
        _, _, group, version, _, space, plural, name = path.split("/")
        kind = f"{plural}.{version}.{group}"
        self._done("patch", kind, name, "-n", space, "--type=merge", "-p", json.dumps(body), "-o", "json")

    def _done(self, *words: str, stdin: str = "") -> Any:
        done = self.cluster.kubectl(*words, stdin=stdin)
        if done.returncode:
            raise ClusterError(500, done.stderr)
        return json.loads(done.stdout)


def made(cluster: Cluster, *objects: dict[str, Any]) -> None:
    """These objects are there, as their driver makes them."""
    clean = [
        {**one, "metadata": {k: v for k, v in one["metadata"].items() if k in ("name", "namespace")}} for one in objects
    ]
    done = cluster.kubectl("create", "-f", "-", stdin=yaml.safe_dump_all(clean))
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def kinds(cluster: Cluster) -> str:
    """All kinds of DWS, as kubectl takes them."""
    return ",".join(f"{plural}.{names.GROUP}" for plural in installed.crds(Api(cluster)))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def empty(cluster: Cluster, kinds: str) -> Iterator[None]:
    yield
    assert cluster.kubectl("delete", kinds, "--all", "-A", "--timeout=60s").returncode == 0
    cluster.kubectl("delete", "validatingwebhookconfiguration", closing.NAME, "--ignore-not-found")


def removal(cluster: Cluster, tmp_path: Path, command: str, *, again: bool = False) -> subprocess.CompletedProcess[str]:
    """The script's end; `command` stands for make undeploy."""
    facts = {"preflight.cluster": {"cert_manager": ["v1alpha3"]}, "workarea.rendered": {"objects": [OWN]}}
    (action,) = remove.undeploy_actions(a_place(found=facts), "0.0.20", {"CRDs": {}}, again=again)
    assert isinstance(action, RunScript)
    own = f"clone={tmp_path}\ncommand={json.dumps(command)}\n"
    script = action.script.replace('cd "$clone"', f'{own}cd "$clone"', 1)
    head = f"set -eu\numask 022\nSTATE={tmp_path}/state\nRUN=run-1\n"
    environment = {
        "PATH": f"{tmp_path}/first:{cluster.folder}/bin:/usr/bin:/bin",
        "KUBECONFIG": str(cluster.folder / "admin"),
    }
    return subprocess.run(["sh", "-c", head + script], env=environment, capture_output=True, text=True, timeout=200)


def submitted(cluster: Cluster, name: str) -> str:
    """What kubectl says to the plugin, "" where a Workflow could be made."""
    done = cluster.kubectl("create", "-f", "-", stdin=WORKFLOW.format(name=name), user="slurm-dws")
    return done.stderr if done.returncode else ""


def test_while_dws_goes_a_new_job_is_refused_with_words(cluster: Cluster, tmp_path: Path) -> None:
    """sbatch shows what kubectl says; afterwards jobs are taken again."""
    Path(tmp_path / "workflow").write_text(WORKFLOW.format(name="bb1"))
    kubectl = f"kubectl --kubeconfig={cluster.folder}/slurm-dws create -f workflow"
    done = removal(cluster, tmp_path, f"! {kubectl} 2>said")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "dws-is-being-removed.submit-again-later" in (tmp_path / "said").read_text()
    assert submitted(cluster, "bb2") == ""


@pytest.mark.parametrize("labelled", [True, False])
def test_dws_that_stays_is_closed_to_one_slurm_alone(cluster: Cluster, labelled: bool) -> None:
    """Flux's Workflows have no label of the plugin, another Slurm's are in another namespace: both go on. Where the API server
    labels no namespaces, as before Kubernetes 1.21, other Slurms wait, too, and this one is closed all the same."""
    cluster.kubectl("create", "namespace", "slurm-b")
    key = "kubernetes.io/metadata.name" if labelled else "never-there"
    closed = json.dumps(closing.of_slurm({"origin": "burst_buffer.lua"}, ["default"])).replace(
        "kubernetes.io/metadata.name", key
    )
    environment = {"PATH": f"{cluster.folder}/bin:/usr/bin:/bin", "KUBECONFIG": str(cluster.folder / "admin")}
    command = close_dws.close_command(json.loads(closed))
    done = subprocess.run(
        ["sh", "-c", command], env=environment, cwd=cluster.folder, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    plugin = "namespace: default, labels: {{origin: burst_buffer.lua}}"

    def said(name: str, meta: str) -> str:
        workflow = WORKFLOW.replace("namespace: default", meta).format(name=name)
        return cluster.kubectl("create", "-f", "-", stdin=workflow).stderr

    assert 'failed calling webhook "burst-buffer-is-being-removed.submit-again-later' in said("bb1", plugin)
    assert said("flux", "namespace: default") == ""
    assert (said("bb2", plugin.replace("default", "slurm-b")) == "") == labelled
    assert closing.covers(Api(cluster).get(closing.PATH), json.loads(closed))


def test_what_users_have_stored_stops_it_and_is_named(cluster: Cluster, tmp_path: Path) -> None:
    """The command isn't reached, and DWS is open afterwards."""
    made(cluster, a_psi(), some_servers("left"))
    done = removal(cluster, tmp_path, "touch reached")
    assert done.returncode == 3 and not (tmp_path / "reached").exists()
    assert "PersistentStorageInstance default/scratch: lustre file system, active, of user 1500, 10TiB" in done.stdout
    assert "Servers default/left: has allocations, on Storage rabbit-1" in done.stdout
    assert submitted(cluster, "bb1") == ""
    found = persistent_storage.read(Api(cluster))  # type: ignore[arg-type]
    assert [one["name"] for one in found["data"]] == ["default/scratch", "default/left"]
    assert all(Api(cluster).get(one["path"]) for one in found["data"])


def test_no_job_comes_between_the_look_and_the_deed(cluster: Cluster, tmp_path: Path) -> None:
    """Many submit at once, all the time: whenever DWS is about to go, none is there and none gets in."""
    over = threading.Event()
    refused: list[str] = []

    def submit(number: int) -> None:
        for again in range(1000):
            if over.is_set():
                return
            said = submitted(cluster, f"bb{number}-{again}")
            if said:
                refused.append(said)
            else:
                cluster.kubectl("delete", "workflow", f"bb{number}-{again}")

    users = [threading.Thread(target=submit, args=(number,)) for number in range(2)]
    for one in users:
        one.start()
    look = "kubectl get workflows.dataworkflowservices.github.io -A -o name"
    try:
        # those that were let in before go by themselves
        runs = [removal(cluster, tmp_path, f"{look} >before; sleep 1; {look} >after") for _ in range(3)]
    finally:
        over.set()
        for one in users:
            one.join()
    through = [one for one in runs if one.returncode == 0]
    assert {one.returncode for one in runs} <= {0, 3}, runs
    if through:
        assert (tmp_path / "before").read_text() == (tmp_path / "after").read_text() == ""
    assert any("dws-is-being-removed" in said for said in refused)


@pytest.mark.parametrize("used", [False, True])
def test_an_idle_servers_object_is_deleted_only_as_it_was_seen(cluster: Cluster, tmp_path: Path, used: bool) -> None:
    """Its allocations come by a change, which is open to all while new objects are refused: who has got them stops it."""
    made(cluster, some_servers("waiting", storages=()))
    at = f"/apis/{names.GROUP}/v1alpha2/namespaces/default/servers/waiting"
    if used:  # right before its deletion, by whoever is first in the way
        patch = json.dumps({"spec": some_servers("waiting")["spec"]})
        change = f"{cluster.folder}/bin/kubectl patch servers waiting --type=merge -p '{patch}' >/dev/null"
        (tmp_path / "first").mkdir()
        program = (
            f'#!/bin/sh\ncase "$*" in *"delete --raw"*) {change} ;; esac\nexec {cluster.folder}/bin/kubectl "$@"\n'
        )
        (tmp_path / "first/kubectl").write_text(program)
        (tmp_path / "first/kubectl").chmod(0o755)
    done = removal(cluster, tmp_path, "touch reached")
    found = Api(cluster).get(at)
    assert (done.returncode, (tmp_path / "reached").exists()) == ((3, False) if used else (0, True)), done
    assert (
        bool(found and found["spec"]["allocationSets"]) == used == ("Servers default/waiting: has alloc" in done.stdout)
    )
    assert submitted(cluster, "bb1") == ""


@pytest.mark.parametrize("command", ["true", "false"])
def test_what_an_administrator_edits_after_it_was_saved_is_not_lost(
    cluster: Cluster, tmp_path: Path, command: str
) -> None:
    """The newer text is the one that is saved, and put back: at once where DWS was not removed. Who comes later hears of it."""
    made(cluster, CONFIG, IDLE)
    kind, spec = f"systemconfigurations.{names.GROUP}", '{"spec":{"portsCooldownInSeconds":77}}'
    edit = f"{cluster.folder}/bin/kubectl patch {kind} default --type=merge -p '{spec}'"
    (tmp_path / "first").mkdir()
    program = (  # once, right before the first deletion; and once more when it is gone
        f'#!/bin/sh\ncase "$*" in *"delete --raw"*systemconf*) mkdir {tmp_path}/edited 2>/dev/null && {edit} >/dev/null ;; esac\n'
        f'exec {cluster.folder}/bin/kubectl "$@"\n'
    )
    (tmp_path / "first/kubectl").write_text(program)
    (tmp_path / "first/kubectl").chmod(0o755)
    (tmp_path / "late").write_text(f"{edit} >{tmp_path}/late.said 2>&1\n")
    done = removal(cluster, tmp_path, f"! sh late && {command}", again=True)
    assert (done.returncode == 0) == (command == "true"), done
    assert "not found" in (tmp_path / "late.said").read_text()
    saved = json.loads((tmp_path / "state/before/run-1/.kept.json").read_text())["items"]
    assert [one["spec"].get("portsCooldownInSeconds") for one in saved if one["kind"] != "Storage"] == [77]
    assert states(cluster, saved) == (["missing"] if command == "true" else ["as saved"]) * 2
    assert (tmp_path / "state/put-back.json").exists() == (command == "true")


def test_what_a_storage_owns_stops_it_until_the_command_that_is_shown_was_typed(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Of the API server's own kinds, as kubectl calls them; what stays is the object that was there."""
    made(cluster, IDLE)
    at = Api(cluster).get(f"/apis/{names.GROUP}/v1alpha2/namespaces/default/storages/rabbit-1")
    owner = {"apiVersion": at["apiVersion"], "kind": "Storage", "name": "rabbit-1", "uid": at["metadata"]["uid"]}
    meta = {"name": "theirs", "namespace": "default", "ownerReferences": [owner]}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": meta, "rules": []}
    for one in (role, {"apiVersion": "v1", "kind": "Secret", "metadata": meta}):
        assert cluster.kubectl("create", "-f", "-", stdin=json.dumps(one)).returncode == 0
    first = cluster.kubectl("get", "secret", "theirs", "-o", "jsonpath={.metadata.uid}").stdout
    done = removal(cluster, tmp_path, "touch reached")
    assert done.returncode == 3 and not (tmp_path / "reached").exists(), done
    fixes = [line.split("`")[1] for line in done.stdout.splitlines() if "kubectl patch" in line]
    assert len(fixes) == 2
    for fix in fixes:
        assert cluster.kubectl(*shlex.split(fix)[1:]).returncode == 0
    assert removal(cluster, tmp_path, "touch reached").returncode == 0 and (tmp_path / "reached").exists()
    assert cluster.kubectl("get", "secret", "theirs", "-o", "jsonpath={.metadata.uid}").stdout == first
    assert cluster.kubectl("delete", "secret/theirs", "role/theirs").returncode == 0


def states(cluster: Cluster, objects: Sequence[dict[str, Any]]) -> list[str]:
    return [one["state"] for one in kept_configuration.states(Api(cluster), objects).values()]  # type: ignore[arg-type]


def test_saved_objects_are_restored_unchanged(cluster: Cluster, tmp_path: Path) -> None:
    """Saved, gone, put back, compared: by the install that follows, and by hand with the command of the page."""
    made(cluster, CONFIG, RULE, IDLE)
    before = {dws_objects.label(one): one for one in installed.contents(Api(cluster))["storages"]}  # type: ignore[arg-type]
    done = removal(cluster, tmp_path, "true", again=True)
    assert done.returncode == 0, done.stdout + done.stderr
    saved = json.loads((tmp_path / "state/put-back.json").read_text())["items"]
    assert [one["kind"] for one in saved] == ["DWDirectiveRule", "Storage", "SystemConfiguration"]
    assert saved[1]["spec"] == before["Storage default/rabbit-1"]["spec"]
    for put_back in (
        lambda: kept_configuration.put(Api(cluster), saved),  # type: ignore[arg-type]
        lambda: cluster.kubectl("create", "-f", str(tmp_path / "state/before/run-1/.kept.json")),
    ):
        for plural in ("systemconfigurations", "dwdirectiverules", "storages"):
            assert cluster.kubectl("delete", f"{plural}.{names.GROUP}", "--all", "-A", "--timeout=60s").returncode == 0
        assert states(cluster, saved) == ["missing"] * 3
        put_back()
        assert states(cluster, saved) == ["as saved"] * 3
    other = {key: value for key, value in saved[2]["metadata"].items() if key != "uid"}
    made_other = {**saved[2], "metadata": other, "spec": {"portsCooldownInSeconds": 5, "storageNodes": []}}
    assert cluster.kubectl("apply", "-f", "-", stdin=json.dumps(made_other)).returncode == 0
    assert states(cluster, saved)[2].startswith("spec.")
    kept_configuration.put(Api(cluster), saved)  # type: ignore[arg-type]
    assert states(cluster, saved) == ["as saved"] * 3


def test_fields_unknown_to_an_older_version_are_reported_and_not_awaited(cluster: Cluster, tmp_path: Path) -> None:
    """Back to a DWS whose Storages have no mode: the API server leaves that field out, and all else is as it was saved."""
    at = f"storages.{names.GROUP}"
    made(cluster, IDLE)
    assert removal(cluster, tmp_path, "true", again=True).returncode == 0
    saved = json.loads((tmp_path / "state/put-back.json").read_text())["items"]
    assert saved[0]["spec"]["mode"] == "Live"
    newer = json.loads(cluster.kubectl("get", "crd", at, "-o", "json").stdout)["spec"]
    spec = "schema/openAPIV3Schema/properties/spec/properties/mode"
    older = [{"op": "remove", "path": f"/spec/versions/{i}/{spec}"} for i in range(len(newer["versions"]))]
    assert cluster.kubectl("patch", "crd", at, "--type=json", "-p", json.dumps(older)).returncode == 0
    try:
        place = a_place(found={"deploy.saved": saved, "deploy.kept": kept_configuration.states(Api(cluster), saved)})  # type: ignore[arg-type]
        (step,) = (one for one in kept_configuration.STEPS if one.name == "kept")
        assert step.change is not None
        (action,) = step.change(place, None, None)
        assert isinstance(action, CallApi)
        assert action.title == (
            "put back the saved objects: Storage default/rabbit-1 (without spec.mode, which this version of DWS does not have)"
        )
        kept_configuration.put(Api(cluster), saved)  # type: ignore[arg-type]
        assert (
            "mode" not in Api(cluster).get(f"/apis/{names.GROUP}/v1alpha2/namespaces/default/storages/rabbit-1")["spec"]
        )
        assert states(cluster, saved) == ["as saved"]
    finally:
        back = [{"op": "replace", "path": "/spec/versions", "value": newer["versions"]}]
        assert cluster.kubectl("patch", "crd", at, "--type=json", "-p", json.dumps(back)).returncode == 0


def test_owned_objects_are_restored_without_the_former_owners_uid(cluster: Cluster, tmp_path: Path) -> None:
    """From 0.1 on DWS makes the Storages of a SystemConfiguration, and notes its uid as a label: that is another one afterwards."""
    at = "storages.dataworkflowservices.github.io/rabbit-1"

    def taken() -> str:
        """As its controller does whenever it sees the Storage."""
        owner = f"/apis/{names.GROUP}/v1alpha2/namespaces/default/systemconfigurations/default"
        uid = str(Api(cluster).get(owner)["metadata"]["uid"])
        words = (f"{names.GROUP}/owner.uid={uid}", f"{names.GROUP}/owner.name=default")
        assert cluster.kubectl("label", at, *words, "--overwrite").returncode == 0
        return uid

    made(cluster, CONFIG, IDLE)
    former = taken()
    assert removal(cluster, tmp_path, "true", again=True).returncode == 0
    saved = json.loads((tmp_path / "state/put-back.json").read_text())["items"]
    kept_configuration.put(Api(cluster), saved)  # type: ignore[arg-type]
    assert former not in cluster.kubectl("get", at, "-o", "jsonpath={.metadata.labels}").stdout
    assert taken() != former
    assert states(cluster, saved) == ["as saved"] * 2
