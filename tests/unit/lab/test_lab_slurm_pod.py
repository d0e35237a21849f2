"""slurmctld in a pod of the lab: what the lab is then, what is applied, when the pod is well, and its image."""

import base64
import datetime
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import access, demo, images, lifecycle, registry, slurm, slurm_image, slurm_pod
from lab.layer import Layer
from lab.model import Lab, Options

PASSWD = "root:x:0:0:root:/root:/bin/bash\nmunge:x:107:109::/nonexistent:/usr/sbin/nologin\n"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab("test", tmp_path / "state", 3, Options(slurmctld_pod=True))


def test_only_a_lab_with_the_pod_lacks_the_controllers_hosts(lab: Lab) -> None:
    """With the pod neither controller is a host, and slurm.conf's SlurmctldHost is the worker; otherwise nothing changes."""
    plain = Lab("test", lab.state, 3)
    gone = {host.name for host in plain.hosts} - {host.name for host in lab.hosts}
    assert gone == {"slurmctl1", "slurmctl2"}
    assert [host.name for host in lab.slurmctlds] == ["ncn-w001"]
    assert plain.slurmctlds == plain.role("controller")


def test_a_lab_remembers_that_it_has_the_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """lab.json keeps the option, which the other tasks (down, status, reset) are not given again."""
    monkeypatch.setattr(registry, "CHECKOUT", tmp_path)
    monkeypatch.setattr(registry, "free_index", lambda name: 3)
    registry.create("pod", Options(slurmctld_pod=True))
    assert registry.existing("pod").options == Options(slurmctld_pod=True)


def test_the_demo_leaves_a_lab_with_the_pod_alone(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The demo logs in to slurmctl1. If slurmctld runs in a pod, it says what to do and boots nothing."""
    monkeypatch.setattr(registry, "create", lambda name, options: lab)
    monkeypatch.setattr(lifecycle, "up", lambda lab, announce: pytest.fail("the lab was booted"))
    assert demo.demo() == 2
    assert "invoke lab.down" in capsys.readouterr().out


def test_the_site_file_names_the_pod(lab: Lab) -> None:
    """The one controller is a pod, found by what CSM has: namespace, label, container."""
    pod = {"namespace": "user", "selector": "app=slurmctld", "container": "slurmctld"}
    assert yaml.safe_load(access.site_file(lab))["controllers"] == [{"pod": pod}]


def test_the_pod_and_the_nodes_have_the_same_configuration(lab: Lab, tmp_path: Path) -> None:
    """The ConfigMap's files are those that a compute node finds in its /etc/slurm, byte for byte."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text(PASSWD)
    there = Lab(lab.name, lab.state, lab.index, Options(slurm_root=root, slurmctld_pod=True))
    folder = tmp_path / "layer"
    slurm.write_layer(there, there.host("nid000001"), folder)
    on_host = {path.name: path.read_text() for path in (folder / "etc/slurm").iterdir()}
    assert applied(there, "ConfigMap")["data"] == on_host
    assert (
        base64.b64decode(applied(there, "Secret")["data"]["munge.key"]) == (folder / "etc/munge/munge.key").read_bytes()
    )


def applied(lab: Lab, kind: str) -> dict[str, Any]:
    """The one object of its kind that the lab applies for the pod."""
    (found,) = [one for one in yaml.safe_load_all(slurm_pod.manifests(lab)) if one and one["kind"] == kind]
    return dict(found)


def test_in_the_pod_slurmctld_has_no_log_file(lab: Lab) -> None:
    """Its log is the container's output: with a SlurmctldLogFile, kubectl logs would be empty."""
    lines = slurm.configuration(lab)["slurm.conf"].splitlines()
    settings = dict(line.split("#")[0].split("=", 1) for line in lines if "=" in line.split("#")[0])
    assert settings["SlurmctldHost"].strip() == "ncn-w001"
    assert "SlurmctldLogFile" not in {name.strip() for name in settings}


def test_the_deployment_is_what_csm_has(lab: Lab) -> None:
    """Label, container, the ConfigMap as a whole and the service account's token are as the product will find them."""
    deployment = applied(lab, "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    mounts = {one["mountPath"]: one for one in container["volumeMounts"]}
    assert deployment["spec"]["template"]["metadata"]["labels"] == {"app": "slurmctld"}
    assert (container["name"], container["image"]) == ("slurmctld", slurm_image.IMAGE)
    assert "subPath" not in mounts["/etc/slurm"]
    assert "automountServiceAccountToken" not in spec
    assert spec["nodeSelector"] == {"kubernetes.io/hostname": "ncn-w001"}


def test_a_lab_without_the_pod_applies_nothing_for_it(lab: Lab) -> None:
    """The other labs have no namespace user."""
    assert slurm_pod.manifests(Lab("test", lab.state, 3)) == ""


SINCE = datetime.datetime(2026, 1, 1, 12, 0, 0, tzinfo=datetime.UTC)


def pod(state: dict[str, Any], ready: bool = True, **metadata: str) -> dict[str, Any]:
    """A pod as the API server tells of it."""
    status = {"name": "slurmctld", "ready": ready, "state": state}
    return {"metadata": metadata, "status": {"phase": "Running", "containerStatuses": [status]}}


RUNS = {"running": {"startedAt": "2026-01-01T12:00:00Z"}}
RAN = {"running": {"startedAt": "2026-01-01T11:59:59Z"}}


@pytest.mark.parametrize(
    ("pods", "problem"),
    [
        ([pod(RUNS)], ""),
        ([pod(RUNS), pod(RAN, deletionTimestamp="2026-01-01T12:00:01Z")], ""),
        ([pod(RAN)], "not reported as running again"),
        ([pod(RUNS, ready=False)], "does not answer"),
        ([pod({"waiting": {"reason": "CrashLoopBackOff"}}, ready=False)], "CrashLoopBackOff"),
        ([{"metadata": {}, "status": {"phase": "Pending"}}], "Pending"),
        ([], "0 pods"),
        ([pod(RUNS), pod(RUNS)], "2 pods"),
    ],
)
def test_a_pod_is_well_when_it_is_ready_since_the_boot(pods: list[dict[str, Any]], problem: str) -> None:
    """One pod that is not being deleted, its container Ready and started after the hosts: otherwise the problem is named."""
    said = slurm_pod.judge(pods, since=SINCE)
    assert problem in said
    assert bool(said) is bool(problem)


def test_without_a_boot_an_older_container_will_do(lab: Lab) -> None:
    """A lab that is up already is asked whether the pod is Ready, not since when."""
    assert slurm_pod.judge([pod(RAN)]) == ""


@pytest.fixture
def layer(tmp_path: Path) -> dict[str, tarfile.TarInfo]:
    """The layer of an image of a small root, its members by name."""
    root, top = tmp_path / "root", tmp_path / "top"
    for folder in ("etc", "usr/bin", "usr/share/doc/a", "tmp", "dev"):
        (root / folder).mkdir(parents=True)
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "usr/bin/su").write_text("program")
    (root / "usr/bin/su").chmod(0o4755)
    (root / "usr/share/doc/a/README").write_text("prose")
    (root / "tmp").chmod(0o1777)
    (root / "bin").symlink_to("usr/bin")
    top.mkdir()
    slurm_image.write_top(Layer(top, root))
    slurm_image.write_layer(tmp_path / "layer.tar", (top, root))
    with tarfile.open(tmp_path / "layer.tar") as tar:
        return {member.name: member for member in tar}


def test_an_image_keeps_modes_owners_and_links(layer: dict[str, tarfile.TarInfo]) -> None:
    """Set-user-id programs, sticky folders, symbolic links and the owner of a home are in the image as in the root."""
    assert layer["usr/bin/su"].mode == 0o4755
    assert layer["tmp"].mode == 0o1777
    assert (layer["bin"].issym(), layer["bin"].linkname) == (True, "usr/bin")
    assert (layer["home/joe"].uid, layer["home/joe"].gid) == (1500, 1500)
    assert layer["usr/local/sbin/slurmctld-pod"].mode == 0o755


def test_an_image_has_no_documentation(layer: dict[str, tarfile.TarInfo]) -> None:
    """What no pod reads is left out, its folder stays."""
    assert "usr/share/doc" in layer
    assert not [name for name in layer if name.startswith("usr/share/doc/")]


def test_an_image_knows_who_submits_jobs(tmp_path: Path, layer: dict[str, tarfile.TarInfo]) -> None:
    """The layer above wins: its passwd has joe besides the root's own accounts."""
    with tarfile.open(tmp_path / "layer.tar") as tar:
        content = tar.extractfile("etc/passwd")
        assert content is not None
        assert content.read().decode() == PASSWD + "joe:x:1500:1500::/home/joe:/bin/bash\n"


def test_a_layer_in_a_file_makes_the_same_image_as_one_in_memory(tmp_path: Path) -> None:
    """Large layers are read from a file: size, checksum and bytes are the same."""
    (tmp_path / "layer.tar").write_bytes(b"content")
    for name, data in (("file", tmp_path / "layer.tar"), ("memory", b"content")):
        images.pack(tmp_path / name, "lab.local/x:1", images.Blob(data, images.LAYER), {"User": "0"})
    assert (tmp_path / "file").read_bytes() == (tmp_path / "memory").read_bytes()
