"""Objects of others that objects of DWS own are found in all API groups and named, and the removal is refused."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.domain import dws_objects
from dws_on_csm.model.snapshot import ObjectSnapshot, RollbackTarget
from dws_on_csm.model.step import Check, Constant, Facts, Removal, ShellLook, Stage, StepContext
from dws_on_csm.stages import undeploy
from dws_on_csm.stages.dws import (
    dependents,
    installed,
    persistent_storage,
    remove,
    stuck_crds,
)
from dws_on_csm.stages.dws import (
    replace as dws_replace,
)
from dws_on_csm.stages.rollback import procedure
from tests.unit import fake_kubectl
from tests.unit.stages.dws.test_persistent_storage import (
    CONFIG,
    IDLE,
    MASTER,
    NOW,
    STUCK_KINDS,
    Site,
    V,
    a_kubectl,
    a_place,
    a_psi,
    an_object,
    finalized,
    holds,
    site,
    some_servers,
)

pytestmark = pytest.mark.slow

__all__ = ["site"]


def theirs(
    name: str, owner: str, kind: str = "PersistentVolumeClaim", group: str = "v1", **meta: Any
) -> dict[str, Any]:
    """An object of somebody else, owned by the object with this uid."""
    refs = [{"apiVersion": "x/v1", "kind": "X", "name": "x", "uid": one} for one in owner.split()]
    made = {"name": name, "namespace": "default", "uid": f"{kind}-{name}", "creationTimestamp": "2026-01-31T12:00:00Z"}
    resource = kind.lower() + "s"
    return {
        "apiVersion": group,
        "kind": kind,
        "resource": resource,
        "metadata": {**made, "ownerReferences": refs, **meta},
    }


CLAIM = theirs("data", "Storage-rabbit-1")


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The folder of a kubectl of ours; two kinds of DWS are there."""
    kinds = {
        "workflows": "Workflow",
        "storages": "Storage",
        "servers": "Servers",
        "persistentstorageinstances": "PersistentStorageInstance",
    }
    return a_kubectl(tmp_path / "cluster", kinds)


def looked(there: Path, dying: bool = False) -> subprocess.CompletedProcess[str]:
    """Run the look of the check with a real Python."""
    place = a_place()
    here = installed.found(place)
    place.facts.found[installed.FACT.name] = {MASTER: {**here, "crds": {"x": {"deleting": dying}}}}
    made = dependents.check(lambda place: not dying).look(place)
    assert isinstance(made, ShellLook)
    environment = {"PATH": f"{there}:/usr/bin:/bin"}
    return subprocess.run(["sh", "-c", made.script], env=environment, capture_output=True, text=True, timeout=120)


def found(there: Path, *others: dict[str, Any], dying: bool = False) -> dict[str, Any]:
    (there / "others.json").write_text(json.dumps(others))
    done = looked(there, dying)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def asked(there: Path) -> list[str]:
    return (there / "asked").read_text().splitlines() if (there / "asked").exists() else []


def test_what_a_storage_owns_is_found_in_every_group(there: Path, tmp_path: Path) -> None:
    """By the uid alone, in any served version, together with all that such an object owns itself; no other object is found."""
    holds(tmp_path, "storages", IDLE)
    node = theirs("node", "Storage-rabbit-1", "NnfNode", "nnf.cray.hpe.com/v1", namespace="rabbit-1")
    wide = theirs("volume", "Storage-rabbit-1", "PersistentVolume")
    del wide["metadata"]["namespace"]
    pod, other = theirs("pod", "NnfNode-node", "Pod"), theirs("other", "somebody", "Secret")
    seen = found(there, CLAIM, node, wide, pod, other, theirs("old", "Storage-gone", "NnfNode", "nnf.cray.hpe.com/v2"))
    told = {one["name"]: (one["resource"], one["owner"], one["more"]) for one in seen["owned"]}
    assert told == {
        "default/data": ("persistentvolumeclaims", "Storage default/rabbit-1", []),
        "rabbit-1/node": ("nnfnodes.v1.nnf.cray.hpe.com", "Storage default/rabbit-1", ["Pod default/pod"]),
        "volume": ("persistentvolumes", "Storage default/rabbit-1", []),
    }
    assert seen["unasked"] == [] and {one["data"] for one in seen["owned"]} == {False}


def test_of_others_the_metadata_alone_is_read_in_pages(there: Path, tmp_path: Path) -> None:
    """The content of a Secret is never read; a kind with many objects is read in pages, completely."""
    holds(tmp_path, "storages", IDLE)
    many = [theirs(f"s{n}", "Storage-rabbit-1" if n == 1234 else "x", "Secret") for n in range(1300)]
    event = theirs("e", "Storage-rabbit-1", "Event")
    assert [one["name"] for one in found(there, *many, event)["owned"]] == ["default/s1234"]
    lists = [one for one in asked(there) if "/secrets?" in one]
    assert len(lists) == 3 and all("limit=500" in one and "PartialObjectMetadataList" in one for one in lists)
    assert not any("/events" in one for one in asked(there))


def test_where_nothing_of_dws_could_own_anything_nothing_is_listed(there: Path, tmp_path: Path) -> None:
    """No object, or only a Workflow with its objects: these have their own guards."""
    assert found(there, CLAIM)["owned"] == []
    holds(tmp_path, "workflows", an_object("Workflow", "bb1"))
    holds(tmp_path, "servers", some_servers("bb1-0", owner="Workflow-bb1"))
    others = [theirs("a", "Workflow-bb1"), theirs("b", "Servers-bb1-0")]
    assert found(there, *others)["owned"] == []
    assert not any("persistentvolumeclaims" in one or one.startswith("/api/v1 ") for one in asked(there))


@pytest.mark.parametrize("stage", ["preflight", "replace"])
def test_an_install_that_takes_nothing_away_makes_no_such_look(stage: str) -> None:
    """Neither before nor in its stages."""
    steps = dws_replace.checks("preflight") if stage == "preflight" else dws_replace.STAGE.steps
    (check,) = (one for one in steps if one.name == "owned")
    assert isinstance(check, Check) and check.look(a_place()) == Constant(dependents.NOTHING)
    assert isinstance(check.look(a_place(dws="0.1.9")), ShellLook)


def judged(found: Mapping[str, Any], typed: str = "", agreed: Sequence[Any] = ()) -> list[str]:
    place = a_place(typed, agreed=agreed)
    return [f"{one.name}: {one.text} -> {one.fix}" for one in dependents.check(lambda place: True).judge(place, found)]


def test_the_fix_keeps_the_object_and_its_other_owners(there: Path, tmp_path: Path) -> None:
    """A merge patch of this very object, quoted for a shell, that removes only the owners that are to be deleted."""
    holds(tmp_path, "storages", IDLE)
    (one,) = found(there, theirs("data", "Storage-rabbit-1 somebody"))["owned"]
    text, fix = dws_objects.describe_owned(one, NOW), dws_objects.owned_fix(one)
    assert text.startswith(
        "PersistentVolumeClaim default/data, 3 days old: its owner Storage default/rabbit-1 is removed with DWS"
    )
    words = shlex.split(fix.split("`")[1])
    assert words[:5] == ["kubectl", "patch", "persistentvolumeclaims", "data", "--namespace"]
    left = [{"apiVersion": "x/v1", "kind": "X", "name": "x", "uid": "somebody"}]
    assert json.loads(words[-1]) == {"metadata": {"uid": "PersistentVolumeClaim-data", "ownerReferences": left}}
    assert fix.split("`")[3] == "kubectl delete persistentvolumeclaims data --namespace default"
    assert judged({"owned": [one], "unasked": []})[0].startswith("storage-owned: PersistentVolumeClaim default/data")


def test_many_objects_are_all_listed_and_odd_names_are_escaped(there: Path, tmp_path: Path) -> None:
    """The complete list: each of them is somebody's data."""
    holds(tmp_path, "storages", IDLE)
    every = [theirs(f"c{n}", "Storage-rabbit-1") for n in range(200)]
    every[0]["metadata"]["name"] = "a\x1b[2J"
    told = judged(found(there, *every))
    assert len(told) == 200 and not any("\x1b" in one for one in told)


def test_what_belongs_to_storage_goes_with_it_where_that_was_typed_and_is_named(there: Path, tmp_path: Path) -> None:
    """Also through the instance's own objects; it is reported before, and it is among the confirmed things."""
    psi, servers = a_psi(), some_servers("scratch", owner="PersistentStorageInstance-scratch")
    holds(tmp_path, "persistentstorageinstances", psi)
    holds(tmp_path, "servers", servers)
    holds(tmp_path, "storages", IDLE)
    seen = found(there, theirs("below", "Servers-scratch"), CLAIM)
    assert {one["name"]: one["data"] for one in seen["owned"]} == {"default/below": True, "default/data": False}
    kinds = {"persistentstorageinstances": [psi], "servers": [servers]}
    data = [{**one, "path": "/x"} for one in dws_objects.data(kinds)]
    assert [one.partition(",")[0] for one in judged(seen, agreed=data)] == [
        f"storage-owned: PersistentVolumeClaim default/{name}" for name in ("below", "data")
    ]
    assert [one.partition(",")[0] for one in judged(seen, "1", data)] == [
        "storage-owned: PersistentVolumeClaim default/data"
    ]
    step = persistent_storage.step("undeploy", undeploy.version)
    place = a_place("1", agreed=data, now=data)
    place.facts.found["undeploy.owned"] = {MASTER: seen}
    assert step.removes is not None
    taken = step.removes(place, ["PersistentStorageInstance default/scratch"], [])[0]
    assert isinstance(taken, Removal)
    assert "PersistentVolumeClaim default/below" in taken.words
    assert "PersistentVolumeClaim default/below (PersistentVolumeClaim-below)" in taken.things
    assert not any("default/data" in one for one in taken.things)


def test_released_objects_delete_nothing_else(there: Path, tmp_path: Path) -> None:
    """Where an undeploy deleted CRDs in part, only objects that are being deleted are released; the others stay."""
    holds(tmp_path, "storages", finalized(IDLE), an_object("Storage", "stays"))
    others = [CLAIM, theirs("other", "Storage-stays"), theirs("going", "Storage-rabbit-1", deletionTimestamp="now")]
    assert [one["name"] for one in found(there, *others, dying=True)["owned"]] == ["default/data"]
    kind, one = STUCK_KINDS["persistentstorageinstances"]
    place = a_place("a")
    data = [{**each, "path": "/x"} for each in dws_objects.data({f"{kind.lower()}s": [one]})]
    place.facts.found[stuck_crds.FACT.name] = {MASTER: data}
    place.facts.first[stuck_crds.FACT.name] = {MASTER: data}
    seen = {"owned": [{**(found(there, CLAIM)["owned"][0]), "data": True}], "unasked": []}
    assert not dependents.check(lambda place: False).judge(place, seen)
    no = replace(place, site=replace(place.site, deletes=""))
    assert [one.name for one in dependents.check(lambda place: False).judge(no, seen)] == ["storage-owned"]


def test_what_has_lost_its_last_owner_goes_in_any_case() -> None:
    """As a Servers whose instance was deleted: Kubernetes is about to delete it, with all that it owns."""
    servers = some_servers("left", owner="PersistentStorageInstance-gone")
    assert dws_objects.removed_with_dws({"servers": [servers]}) == {}
    servers["metadata"]["ownerReferences"].append({"apiVersion": "x/v1", "kind": "X", "name": "x", "uid": "somebody"})
    assert dws_objects.removed_with_dws({"servers": [servers]}) == {"Servers-left": "Servers default/left"}


# --- what cannot be asked


METRICS = theirs("m", "x", "PodMetrics", "metrics.k8s.io/v1beta1")


def test_a_group_whose_server_is_down_is_reported_and_stops_nothing(there: Path, tmp_path: Path) -> None:
    """The garbage collector cannot reach it either. A group of Kubernetes itself that fails stops the run, unless accepted."""
    holds(tmp_path, "storages", IDLE)
    (there / "broken").write_text("/apis/metrics.k8s.io/v1beta1")
    (there / "down").write_text("v1beta1.metrics.k8s.io")
    seen = found(there, METRICS, theirs("free", ""))
    assert [(one["what"], one["down"]) for one in seen["unasked"]] == [("metrics.k8s.io/v1beta1", True)]
    assert judged(seen) == []
    place = a_place(found={"preflight.owned": seen})
    assert "metrics.k8s.io/v1beta1 could not be searched" in undeploy.removal_text(
        place, {"DWS": "x", "CRDs": [], "objects": []}, None
    )
    (there / "down").unlink()
    assert judged(found(there, METRICS))[0].startswith("owners-unknown: metrics.k8s.io/v1beta1 could not be searched")


def test_what_is_not_found_is_not_taken_for_empty(there: Path, tmp_path: Path) -> None:
    """A version that /apis names, or a kind that discovery names, and that then is not found: its objects' owners are unknown."""
    holds(tmp_path, "storages", IDLE)
    vault = theirs("b", "Storage-rabbit-1", "Vault", "x.y/v1")
    for path, what in (("/apis/x.y/v1", "x.y/v1"), ("/apis/x.y/v1/vaults", "vaults.v1.x.y")):
        (there / "gone").write_text(path)
        seen = found(there, vault)
        assert [(one["what"], one["down"]) for one in seen["unasked"]] == [(what, False)] and seen["owned"] == []
        assert [one.partition(":")[0] for one in judged(seen)] == ["owners-unknown"]
    (there / "gone").unlink()
    assert [one["name"] for one in found(there, vault)["owned"]] == ["default/b"]


def test_a_server_that_is_away_and_that_discovery_does_not_name_is_reported(there: Path, tmp_path: Path) -> None:
    """Its APIService names it; Kubernetes calls it unavailable, which is said and stops nothing."""
    holds(tmp_path, "storages", IDLE)
    (there / "away").write_text("hidden.io/v1")
    (there / "gone").write_text("/apis/hidden.io/v1")
    (there / "down").write_text("v1.hidden.io")
    seen = found(there, CLAIM)
    assert [(one["what"], one["down"]) for one in seen["unasked"]] == [("hidden.io/v1", True)]
    assert [one["name"] for one in seen["owned"]] == ["default/data"]


def test_a_kind_missing_in_one_version_is_listed_in_another(there: Path, tmp_path: Path) -> None:
    """Where no version can be listed, the owners are unknown: a finding."""
    holds(tmp_path, "storages", IDLE)
    both = [theirs("a", "x", "Vault", "x.y/v2"), theirs("b", "Storage-rabbit-1", "Vault", "x.y/v1")]
    (there / "broken").write_text("/apis/x.y/v2/vaults")
    assert [one["resource"] for one in found(there, *both)["owned"]] == ["vaults.v1.x.y"]
    (there / "broken").write_text("/apis/x.y/v2/vaults\n/apis/x.y/v1/vaults")
    seen = found(there, *both)
    assert [(one["what"], one["down"]) for one in seen["unasked"]] == [("vaults.v2.x.y", False)]
    assert [one.partition(":")[0] for one in judged(seen)] == ["owners-unknown"]


@pytest.mark.parametrize("broken", ["/apis", f"/apis/{fake_kubectl.GROUP}/{V}/storages"])
def test_an_api_that_does_not_say_which_groups_there_are_fails_the_look(
    there: Path, tmp_path: Path, broken: str
) -> None:
    """With its message, and nothing is left behind."""
    holds(tmp_path, "storages", IDLE)
    (there / "broken").write_text(broken)
    done = looked(there)
    assert done.returncode == 1 and f"{broken}" in done.stderr and "503" in done.stderr and done.stdout == ""


def test_no_proxy_is_left_however_it_ends(there: Path, tmp_path: Path) -> None:
    """Its socket is in a folder that only root can enter; both are removed, also when the look is interrupted."""
    (there / "kubectl").rename(there / "real")
    program = (
        f'#!/bin/sh\necho $$ "$2" >{tmp_path}/begun.part\nmv {tmp_path}/begun.part {tmp_path}/begun\nexec sleep 900\n'
    )
    (there / "kubectl").write_text(program)
    (there / "kubectl").chmod(0o755)
    text = f"{dependents.program()}\nlook_for_owned(False)"
    ran = subprocess.Popen(["python3", "-c", text], env={"PATH": f"{there}:/usr/bin:/bin"})
    while not (tmp_path / "begun").exists():
        assert ran.poll() is None
        time.sleep(0.01)
    child, _, socket = (tmp_path / "begun").read_text().strip().partition(" --unix-socket=")
    folder = Path(socket).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    ran.send_signal(signal.SIGTERM)
    assert ran.wait(60) == 143 and not folder.exists()
    while Path(f"/proc/{child}").exists() and ") Z " not in Path(f"/proc/{child}/stat").read_text():
        time.sleep(0.01)  # the kernel ends it with its parent, also where the signal came while it was being started


def test_a_signal_while_the_proxy_is_being_started_is_not_lost(there: Path) -> None:
    """Python ignores what a handler raises where the signal comes in a hook of its fork: the look ends all the same."""
    (there / "kubectl").write_text("#!/bin/sh\nexec sleep 900\n")
    hook = "import os, signal\ndef hook():\n    os.kill(os.getpid(), signal.SIGTERM)\n    return None\n"
    text = f"{hook}os.register_at_fork(after_in_parent=hook)\n{dependents.program()}\nlook_for_owned(False)"
    began = time.monotonic()
    done = subprocess.run(["python3", "-c", text], env={"PATH": f"{there}:/usr/bin:/bin"}, check=False, timeout=60)
    assert done.returncode == 143 and time.monotonic() - began < 15


# --- the last look


def test_the_last_look_stops_where_kubernetes_would_delete_what_others_keep(site: Site, tmp_path: Path) -> None:
    """By name and with the fix; nothing is saved, deleted or marked. Without the owner the removal succeeds."""
    holds(tmp_path, "storages", IDLE)
    holds(tmp_path, "systemconfigurations", CONFIG)
    holds(tmp_path, "others", CLAIM)
    ran = site()
    said, _ = ran.communicate(timeout=60)
    assert ran.returncode == 3 and not (tmp_path / "done").exists(), said
    assert "PersistentVolumeClaim default/data" in said and "kubectl patch persistentvolumeclaims data" in said
    assert not (tmp_path / "cluster/closed").exists() and not (tmp_path / "state").exists()
    holds(tmp_path, "others", {**CLAIM, "metadata": {**CLAIM["metadata"], "ownerReferences": []}})
    ran = site()
    said, _ = ran.communicate(timeout=60)
    assert ran.returncode == 0 and (tmp_path / "done").exists(), said


@pytest.mark.parametrize("word", ["known to be down", "unknown", "accepted"])
def test_the_last_look_judges_what_cannot_be_asked_as_the_first_does(
    site: Site, tmp_path: Path, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group that Kubernetes reports as unavailable, or that the site accepts, does not stop the run; any other does."""
    holds(tmp_path, "storages", IDLE)
    holds(tmp_path, "others", METRICS)
    (tmp_path / "cluster/broken").write_text("/apis/metrics.k8s.io/v1beta1")
    if word == "known to be down":
        (tmp_path / "cluster/down").write_text("v1beta1.metrics.k8s.io")
    if word == "accepted":
        dumps = json.dumps
        monkeypatch.setattr(
            remove.json,  # type: ignore[attr-defined]
            "dumps",
            lambda one, **more: dumps(
                {**one, "accept": [dws_objects.OWNERS_UNKNOWN]} if "accept" in one else one, **more
            ),
        )
    ran = site()
    monkeypatch.undo()
    said, _ = ran.communicate(timeout=60)
    assert ran.returncode == (3 if word == "unknown" else 0), said
    assert ("metrics.k8s.io/v1beta1" in said) == (word != "accepted" or "could not be searched" in said)


# --- wherever DWS, or a kind of it, goes


def test_the_check_precedes_every_removal() -> None:
    """In the preflight and again right before: of an undeploy, an upgrade, and a rollback that takes DWS or one of its kinds."""
    one = ObjectSnapshot(f"{installed.CRDS}/storages.{fake_kubectl.GROUP}", None, frozenset())
    goal = RollbackTarget("1", "leave", {}, (), {})
    ways = [undeploy.stages(), *(procedure.stages(replace(goal, dws=dws), "c") for dws in ("remove", "install"))]
    ways.append(procedure.stages(replace(goal, things=(one,)), "c"))
    for stages in ways:
        names = [f"{stage.name}.{step.name}" for stage in stages for step in stage.steps]
        last = next(one for one in names if one.endswith((".removed", "objects.objects")))
        stage = last.partition(".")[0]
        assert "preflight.owned" in names
        assert names.index(f"{stage}.owned") < names.index(f"{stage}.storage") < names.index(last)
    plain = [step.name for stage in procedure.stages(goal, "c") for step in stage.steps]
    assert "owned" not in plain


@pytest.mark.parametrize("stages", [undeploy.stages(), undeploy.stages(slurm=True)], ids=["DWS", "with Slurm"])
def test_without_dws_nothing_else_has_to_be_known(stages: Sequence[Stage]) -> None:
    """An undeploy of nothing succeeds: the names typed for storage do not matter then."""
    (check,) = (one for one in stages[0].steps if one.name == "owned")
    assert isinstance(check, Check)
    nothing = {"traces": [], "crds": {}, "unfinished": "", "tag": ""}
    place = StepContext(load(DEFAULT), Facts({installed.FACT.name: {"ncn-m001": nothing}}), "ncn-m001")
    look = check.look(place)
    assert isinstance(look, Constant) and list(check.judge(place, look.value)) == []


def test_no_site_file_accepts_it() -> None:
    """It is somebody's data; only a kind that cannot be listed may be accepted."""
    site = load(DEFAULT)
    place = StepContext(site, Facts({persistent_storage.FACT.name: {MASTER: persistent_storage.NOTHING}}), MASTER)
    one = {"what": "x", "why": "y", "down": False}
    assert [f.name for f in dependents.check(lambda place: True).judge(place, {"owned": [], "unasked": [one]})] == [
        dws_objects.OWNERS_UNKNOWN
    ]
