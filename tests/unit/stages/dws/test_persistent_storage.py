"""Persistent storage is data of users: what counts as such, who agrees to its end, and the last look before DWS goes."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.domain import dws_objects, names
from dws_on_csm.engine import before_images, host_script
from dws_on_csm.engine.host_script import compile_actions
from dws_on_csm.engine.looks import Board
from dws_on_csm.engine.perform import perform
from dws_on_csm.engine.reach import Reach, StepReporter
from dws_on_csm.model import render
from dws_on_csm.model.actions import CallApi, Delete, RunScript
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.model.errors import Unreachable
from dws_on_csm.model.events import Event
from dws_on_csm.model.snapshot import Dws, RollbackTarget
from dws_on_csm.model.step import Check, Fact, Facts, Finding, Refused, Step, StepContext
from dws_on_csm.stages import undeploy
from dws_on_csm.stages.dws import (
    closing,
    in_use,
    installed,
    kept_configuration,
    open_dws,
    persistent_storage,
    remove,
    stuck_crds,
)
from dws_on_csm.stages.dws import (
    replace as dws_replace,
)
from dws_on_csm.stages.install import STAGES
from dws_on_csm.stages.rollback import procedure
from tests.unit import fake_kubectl
from tests.unit.conftest import LocalHost

pytestmark = pytest.mark.slow

V = "v1alpha2"
MASTER = "ncn-m001"


def an_object(kind: str, name: str, *, owner: str = "", **more: Any) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": name, "namespace": "default", "uid": f"{kind}-{name}"}
    meta["creationTimestamp"] = "2026-01-31T12:00:00Z"
    if owner:
        group = f"{names.GROUP}/{V}"
        meta["ownerReferences"] = [{"apiVersion": group, "kind": owner.split("-")[0], "name": "x", "uid": owner}]
    return {"apiVersion": f"{names.GROUP}/{V}", "kind": kind, "metadata": meta, **more}


def a_psi(name: str = "scratch", user: int = 1500) -> dict[str, Any]:
    line = f"#DW create_persistent type=lustre capacity=10TiB name={name}"
    spec = {"name": name, "fsType": "lustre", "dwDirective": line, "userID": user, "state": "Active"}
    return an_object("PersistentStorageInstance", name, spec=spec, status={"state": "Active"})


def some_servers(name: str, *, owner: str = "", storages: Sequence[str] = ("rabbit-1",)) -> dict[str, Any]:
    sets = [
        {"label": "ost", "allocationSize": 1 << 40, "storage": [{"name": s, "allocationCount": 2} for s in storages]}
    ]
    return an_object("Servers", name, owner=owner, spec={"allocationSets": sets if storages else []})


def a_mount(name: str, state: str) -> dict[str, Any]:
    mounts = [{"mountPath": "/mnt/data", "userID": 1500}]
    return an_object("ClientMount", name, spec={"node": "x1000", "desiredState": state, "mounts": mounts})


CONFIG = an_object("SystemConfiguration", "default", spec={"storageNodes": [{"type": "Rabbit", "name": "rabbit-1"}]})
RULE = an_object("DWDirectiveRule", "site", spec=[{"command": "jobdw", "ruleDefs": []}])
IDLE = an_object("Storage", "rabbit-1", spec={"state": "Enabled"}, status={"capacity": 5})

NOW = 1_769_860_800.0 + 3 * 86400


# --- what counts as data


@pytest.mark.parametrize(
    ("plural", "one", "is_data"),
    [
        ("persistentstorageinstances", a_psi(), True),
        ("servers", some_servers("a"), True),
        ("servers", some_servers("a", storages=()), False),
        (
            "servers",
            an_object("Servers", "a", status={"allocationSets": [{"label": "x", "storage": {"rabbit-1": {}}}]}),
            True,
        ),
        ("clientmounts", a_mount("m", "mounted"), True),
        ("clientmounts", a_mount("m", "unmounted"), False),
        ("clientmounts", {**a_mount("m", "unmounted"), "status": {"mounts": [{"state": "mounted"}]}}, True),
        ("storages", IDLE, False),
        ("systemconfigurations", CONFIG, False),
        ("dwdirectiverules", RULE, False),
        ("computes", an_object("Computes", "x", data=[]), False),
        ("vaults", an_object("Vault", "x"), True),
    ],
)
def test_persistent_used_and_unknown_objects_are_data_of_users(plural: str, one: dict[str, Any], is_data: bool) -> None:
    """Everything else is configuration, and is kept."""
    assert [bool(dws_objects.data({plural: [one]})), bool(dws_objects.preserved({plural: [one]}, set()))] == [
        is_data,
        not is_data,
    ]


def test_storage_is_reported_with_owner_size_and_age() -> None:
    """A Servers goes with the instance that owns it, and says how much it is and on which Storages; none is cut off."""
    psi, servers = (
        a_psi(),
        some_servers("scratch", owner="PersistentStorageInstance-scratch", storages=("rabbit-1", "rabbit-2")),
    )
    kinds = {"persistentstorageinstances": [psi, a_psi("small", 7)], "servers": [servers], "storages": [IDLE]}
    assert [dws_objects.describe(one, NOW) for one in dws_objects.data(kinds)] == [
        "PersistentStorageInstance default/scratch: lustre file system, active, with Servers default/scratch,"
        " on Storage rabbit-1, rabbit-2, of user 1500, 4 TiB, 3 days old",
        "PersistentStorageInstance default/small: lustre file system, active, of user 7, 10TiB, 3 days old",
    ]
    many = {"persistentstorageinstances": [a_psi(f"p{n}") for n in range(300)]}
    assert len(dws_objects.data(many)) == 300


def test_what_a_user_wrote_reaches_no_terminal_as_it_is() -> None:
    """An escape sequence in a path to mount at is shown as question marks."""
    one = a_mount("m", "mounted")
    one["spec"]["mounts"][0]["mountPath"] = "/mnt/\x1b[2Jgone\n"
    (told,) = dws_objects.data({"clientmounts": [one]})
    assert (
        "\x1b" not in dws_objects.describe(told)
        and "\n" not in dws_objects.describe(told)
        and "/mnt/?[2Jgone?" in dws_objects.describe(told)
    )


def test_saved_objects_can_be_created_in_any_cluster() -> None:
    """Without what the server, DWS and drivers write; and without an owner whose uid nobody has any more."""
    owner = {"apiVersion": "nnf.cray.hpe.com/v1", "kind": "NnfNode", "name": "n", "uid": "1"}
    one = {
        **IDLE,
        "metadata": {**IDLE["metadata"], "labels": {"a": "b"}, "finalizers": ["x/y"], "resourceVersion": "7"},
    }
    one["metadata"]["ownerReferences"] = [owner]
    (made,) = dws_objects.preserved({"storages": [one]}, set())
    meta = {"name": "rabbit-1", "namespace": "default", "labels": {"a": "b"}, "ownerReferences": [owner]}
    meta["uid"] = "Storage-rabbit-1"
    assert made == {
        "apiVersion": f"{names.GROUP}/{V}",
        "kind": "Storage",
        "metadata": meta,
        "spec": {"state": "Enabled"},
    }


def test_what_goes_with_a_job_is_no_persistent_storage() -> None:
    """A Workflow, which has its own guards, and what it owns, at whatever remove; without its Workflow it counts as data."""
    workflow = an_object("Workflow", "bb1")
    breakdown = an_object("DirectiveBreakdown", "bb1-0", owner="Workflow-bb1")
    servers = some_servers("bb1-0", owner="DirectiveBreakdown-bb1-0")
    mount = a_mount("bb1-x", "mounted")
    mount["metadata"]["labels"] = {f"{names.GROUP}/workflow.uid": "Workflow-bb1"}
    rest = {"directivebreakdowns": [breakdown], "servers": [servers], "clientmounts": [mount]}
    assert (
        dws_objects.data({"workflows": [workflow], **rest})
        == []
        == dws_objects.preserved({"workflows": [workflow]}, set())
    )
    assert [one["kind"] for one in dws_objects.data(rest)] == ["ClientMount", "Servers"]


def test_no_owner_and_no_label_hides_persistent_storage() -> None:
    """Whoever makes an object can name any owner: a ring of owners, a Workflow's label, and a Workflow that owns it. What such
    an instance owns is told with it."""
    workflow = an_object("Workflow", "bb1")
    ring = [a_psi("a"), a_psi("b")]
    for one, other in (ring, ring[::-1]):
        owner = {"apiVersion": f"{names.GROUP}/{V}", "kind": "x", "name": "x", "uid": dws_objects.uid(other)}
        one["metadata"]["ownerReferences"] = [owner]
    labelled, owned = a_psi("labelled"), a_psi("owned")
    labelled["metadata"]["labels"] = {f"{names.GROUP}/workflow.uid": "Workflow-bb1"}
    owned["metadata"]["ownerReferences"] = [
        {"apiVersion": f"{names.GROUP}/{V}", "kind": "Workflow", "name": "bb1", "uid": "Workflow-bb1"}
    ]
    servers = some_servers("labelled", owner="PersistentStorageInstance-labelled")
    servers["metadata"]["labels"] = {f"{names.GROUP}/workflow.uid": "Workflow-bb1"}
    lonely = [some_servers("x", owner="Servers-y"), some_servers("y", owner="Servers-x")]
    kinds = {
        "workflows": [workflow],
        "persistentstorageinstances": [*ring, labelled, owned],
        "servers": [servers, *lonely],
    }
    told = {one["name"]: one["what"] for one in dws_objects.data(kinds)}
    assert told.keys() >= {"default/a", "default/b", "default/labelled", "default/owned"}
    assert "with Servers default/labelled" in told["default/labelled"] and "lustre" in told["default/labelled"]
    assert {"default/x", "default/y"} & told.keys(), "what owns itself is told, too"


def test_a_workflow_that_is_being_deleted_guards_nothing() -> None:
    """What was allocated for it, and is still there, is data: nobody ends the Workflow any more who would free it."""
    workflow = an_object("Workflow", "bb1")
    servers = some_servers("bb1-0", owner="Workflow-bb1")
    kinds = {"workflows": [workflow], "servers": [servers]}
    assert dws_objects.data(kinds) == []
    workflow["metadata"]["deletionTimestamp"] = "2026-01-31T12:00:00Z"
    assert [one["name"] for one in dws_objects.data(kinds)] == ["default/bb1-0"]


def test_what_goes_anyway_is_not_kept() -> None:
    """DWS's own objects, what is being deleted, and what belongs to an object that doesn't stay."""
    dying = {**IDLE, "metadata": {**IDLE["metadata"], "name": "dying", "deletionTimestamp": "2026-01-31T12:00:00Z"}}
    of_job = an_object("Computes", "bb1", owner="Workflow-bb1")
    of_config = an_object("Computes", "default", owner="SystemConfiguration-default")
    kinds = {
        "storages": [dying],
        "computes": [of_job, of_config],
        "systemconfigurations": [CONFIG],
        "dwdirectiverules": [RULE],
    }
    every = [dws_objects.label(one) for one in dws_objects.preserved(kinds, {"DWDirectiveRule default/site"})]
    assert every == ["Computes default/default", "SystemConfiguration default/default"]


# --- who agrees


def found(*objects: dict[str, Any]) -> list[dict[str, Any]]:
    plural = {"PersistentStorageInstance": "persistentstorageinstances", "Servers": "servers", "Vault": "vaults"}
    kinds: dict[str, list[dict[str, Any]]] = {}
    for one in objects:
        kinds.setdefault(plural[one["kind"]], []).append(one)
    return [{**one, "path": f"/{one['plural']}/{one['name']}"} for one in dws_objects.data(kinds)]


@pytest.mark.parametrize(
    ("typed", "objects", "agreed"),
    [
        ("", ["a", "b"], False),
        ("2", ["a", "b"], True),
        ("1", ["a", "b"], False),
        ("3", ["a", "b"], False),
        ("a,b", ["a", "b"], True),
        (" default/a , b", ["a", "b"], True),
        ("a", ["a", "b"], False),
        ("a,b,gone", ["a", "b"], True),
        ("2", ["2", "b"], False),
        ("2,b", ["2", "b"], True),
        ("yes", ["a"], False),
        ("*", ["a"], False),
        ("-1", ["a"], False),
        ("\u0661", ["a"], False),
        (",", ["a"], False),
    ],
)
def test_only_all_names_or_their_number_agree(typed: str, objects: list[str], agreed: bool) -> None:
    """A number that is somebody's name as well is a name: else `2` would delete what nobody meant."""
    told = persistent_storage.objections(typed, found(*map(a_psi, objects)))
    assert (not told) == agreed
    if not agreed:
        assert told[-1].name == "storage-not-agreed" and "--delete-persistent-storage=" in told[-1].fix


def test_a_name_that_two_namespaces_have_is_typed_with_them() -> None:
    """The bare name could mean the other one."""
    other = a_psi("a")
    other["metadata"] |= {"namespace": "lab", "uid": "another"}
    both = found(a_psi("a"), other)
    assert persistent_storage.objections("a", both) and persistent_storage.objections("a,default/a", both)
    assert not persistent_storage.objections("lab/a,default/a", both)


def test_a_refusal_has_every_name_and_the_words_that_would_agree() -> None:
    """Nothing is cut off, whatever the number; what is of an unknown kind, or in use, has a name of its own."""
    every = found(*(a_psi(f"p{n}") for n in range(100)), some_servers("left"), an_object("Vault", "v"))
    told = persistent_storage.objections("", every)
    assert len(told) == 103
    assert {one.name for one in told} == {
        "storage-persistent",
        "storage-in-use",
        "storage-unknown-kind",
        "storage-not-agreed",
    }
    assert "default/p99" in told[-1].fix and "--delete-persistent-storage=102:" in told[-1].fix


def test_a_number_is_printed_with_a_word_that_no_others_have() -> None:
    """As many others that have taken their place, even under their names, are not meant by it."""
    some = found(a_psi("a"), a_psi("b"))
    typed = persistent_storage.objections("", some)[-1].fix.rpartition("=")[2]
    assert (
        typed.startswith("2:")
        and not persistent_storage.objections(typed, some)
        and not persistent_storage.objections(typed, some[::-1])
    )
    anew = [some[0], {**some[1], "uid": "another"}]
    told = persistent_storage.objections(typed, anew)
    assert told[-1].name == "storage-not-agreed" and persistent_storage.number(anew) in told[-1].fix


def refused(place: StepContext, found: Sequence[Any]) -> Sequence[Finding]:
    """What the check of preflight says where this is found."""
    check = persistent_storage.check(lambda place: True, lambda place: True)
    return check.judge(place, {"data": found, "kept": []})


@pytest.mark.parametrize("typed", ["1", "a", "default/a"])
def test_typed_names_apply_to_the_storage_seen_first(typed: str) -> None:
    """The run looks again when it has the lock, or right before the deed: what is in that place by then is another one."""
    before, later = found(a_psi("a")), found(a_psi("a"))
    later[0]["uid"] = "another"
    board = Board(load(DEFAULT))
    board.store(persistent_storage.FACT.name, MASTER, {"data": before, "kept": []})
    board.store(persistent_storage.FACT.name, MASTER, {"data": later, "kept": []})
    place = replace(board.context(MASTER), site=replace(board.site, deletes=typed))
    assert [one.name for one in refused(place, later)] == ["storage-persistent"]
    assert not refused(place, before) and not refused(place, [])


def a_place(
    typed: str = "",
    found: Mapping[str, Any] | None = None,
    *,
    agreed: Sequence[Any] = (),
    now: Sequence[Any] = (),
    dws: str = "0.0.20",
) -> StepContext:
    site = load(DEFAULT)
    site = replace(site, versions=replace(site.versions, dws=dws), deletes=typed)
    there = {"tag": "0.0.20", "unfinished": "", "namespace": True, "traces": ["x"], "crds": {}}
    facts = {
        installed.FACT.name: there,
        persistent_storage.FACT.name: {"data": list(agreed), "kept": []},
        "undeploy.storage": {"data": list(now)},
        "undeploy.owned": {"owned": [], "unasked": []},
    }
    every = {key: {MASTER: value} for key, value in {**facts, **(found or {})}.items()}
    return StepContext(site, Facts(every, {persistent_storage.FACT.name: every[persistent_storage.FACT.name]}), MASTER)


def deleted(place: StepContext) -> list[Delete]:
    step = persistent_storage.step("undeploy", undeploy.version)
    assert step.change is not None and step.read is not None
    have = step.read(place, place.facts.one(Fact[Any]("undeploy", "storage")))
    return [one for one in step.change(place, have, []) if isinstance(one, Delete)]


def of_a_workflow(uid: str, name: str = "for-12") -> dict[str, Any]:
    one = some_servers(name)
    one["metadata"]["labels"] = {f"{names.GROUP}/workflow.uid": uid}
    return one


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("freed", [True, False])
def test_storage_of_a_deleted_orphan_is_awaited(monkeypatch: pytest.MonkeyPatch, seen: bool, freed: bool) -> None:
    """Its driver frees it a moment after the Workflow: that is awaited, for a while, and never agreed to or deleted. Of a Workflow
    that this stage has not seen it is refused at once."""
    cluster = dws(servers=("Servers", [of_a_workflow("orphan")]), workflows=("Workflow", []))
    now = persistent_storage.read(cluster)["data"]  # type: ignore[arg-type]
    place = a_place(now=now, found={"undeploy.workflows": [{"id": "orphan"}] if seen else []})
    step = persistent_storage.step("undeploy", undeploy.version)
    assert step.change is not None and step.read is not None
    have = step.read(place, place.facts.one(Fact[Any]("undeploy", "storage")))
    if not seen:
        with pytest.raises(Refused):
            step.change(place, have, [])
        return
    assert step.removals(place, have, []) == ()
    (wait,) = step.change(place, have, [])
    assert isinstance(wait, CallApi)

    def passes(path: str, seconds: float) -> None:
        assert path.endswith("/namespaces/default/servers") and seconds > 0
        cluster.objects[f"{GROUP_PATH}/servers"] = {"items": [] if freed else [of_a_workflow("orphan")]}
        if not freed:
            monkeypatch.setattr("dws_on_csm.stages.dws.persistent_storage.time.monotonic", lambda: float("inf"))

    monkeypatch.setattr(cluster, "await_event", passes, raising=False)
    if freed:
        assert wait.ask(cluster) == b""  # type: ignore[arg-type]
        return
    with pytest.raises(Refused) as refused:
        wait.ask(cluster)  # type: ignore[arg-type]
    assert [one.name for one in refused.value.findings] == ["storage-in-use"]


def test_whose_storage_is_is_known_when_its_workflow_is_gone() -> None:
    """By the label that drivers give it, or by its owners as far as they are there; persistent storage is of no Workflow."""
    through = an_object("DirectiveBreakdown", "b", owner="Workflow-w")
    kinds = {
        "directivebreakdowns": [through],
        "servers": [some_servers("a", owner="DirectiveBreakdown-b"), of_a_workflow("Workflow-v", "c")],
        "persistentstorageinstances": [{**a_psi(), "metadata": of_a_workflow("Workflow-w", "scratch")["metadata"]}],
    }
    of = {one["name"]: one["of"] for one in dws_objects.data(kinds)}
    assert of == {
        "default/a": ["DirectiveBreakdown-b", "Workflow-w"],
        "default/c": ["Workflow-v"],
        "default/scratch": [],
    }


def test_confirmed_storage_is_deleted_while_drivers_can_free_it() -> None:
    """Instances first; each by its uid, so that another one that has got its name meanwhile stays."""
    some = found(some_servers("left"), a_psi("a"))
    gone = deleted(a_place("2", agreed=some, now=some))
    assert [(one.path.split("/")[1], one.uid) for one in gone] == [
        ("persistentstorageinstances", "PersistentStorageInstance-a"),
        ("servers", "Servers-left"),
    ]


def test_a_deletion_is_of_the_very_object_that_was_seen(local_host: LocalHost) -> None:
    """Its uid goes to the API server, and what was deleted is recorded with its step."""
    gone: list[tuple[str, float, str]] = []

    class Recorder:
        def get(self, path: str) -> Any:
            return a_psi() if not gone else None

        def delete(self, path: str, deadline: float, uid: str = "") -> None:
            gone.append((path, deadline, uid))

    cluster = Recorder()
    at = StepReporter("run-1", MASTER, "undeploy", "storage", list[Event]().append)
    reach = Reach(lambda host: local_host, lambda: cluster, lambda role: MASTER)
    perform(reach, Board(load(DEFAULT)), at, [Delete("/a/b/scratch", 7.0, "the one")], {})
    assert gone == [("/a/b/scratch", 7.0, "the one")]


@pytest.mark.parametrize("typed", ["", "1", "a"])
def test_what_came_between_question_and_deed_is_refused(typed: str) -> None:
    """One that has the number's place, or the very name of one that was agreed to, but is another."""
    before, later = found(a_psi("a")), found(a_psi("a"))
    later[0]["uid"] = "another"
    with pytest.raises(Refused, match="appeared while this run was running"):
        deleted(a_place(typed, agreed=before, now=later))


def test_yes_does_not_cover_it_wherever_dws_goes() -> None:
    """The same check stands before an undeploy, an upgrade and a rollback; and the step that deletes in both removals."""
    some = found(a_psi("a"))
    for checks in (
        undeploy.stages()[0].steps,
        dws_replace.checks("preflight"),
        in_use.checks("preflight", installed.there),
    ):
        (check,) = (one for one in checks if one.name == "storage")
        assert isinstance(check, Check)
        place = a_place(agreed=some, dws="0.1.9")
        assert [one.name for one in check.judge(place, {"data": some, "kept": []})] == [
            "storage-persistent",
            "storage-not-agreed",
        ]
        assert not check.judge(a_place("a", agreed=some, dws="0.1.9"), {"data": some, "kept": []})
    (removing,) = (stage for stage in undeploy.stages() if stage.name == "undeploy")
    for stage in (removing, dws_replace.STAGE):
        order = [one.name for one in stage.steps]
        assert order.index("storage") < order.index("removed")


class Cluster:
    """The API of a cluster that is a dict: path -> object or list."""

    def __init__(self, objects: Mapping[str, Any]) -> None:
        self.objects = dict(objects)

    def get(self, path: str, **query: str) -> Any:
        return self.objects.get(path)

    def create(self, path: str, body: Mapping[str, Any], **query: str) -> Any:
        self.objects[f"{path}/{body['metadata']['name']}"] = {**body, "metadata": {**body["metadata"], "uid": "new"}}
        return body

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        assert "uid" not in body["metadata"], "the API server would take it for a condition"
        meta = {**self.objects[path]["metadata"], **body["metadata"]}
        self.objects[path] = {**self.objects[path], **body, "metadata": meta}
        return self.objects[path]


GROUP_PATH = f"/apis/{names.GROUP}/{V}"


def dws(deleting: bool = False, **kinds: tuple[str, list[dict[str, Any]]]) -> Cluster:
    """A cluster with these CRDs of DWS and their objects: plural=(KIND, objects)."""
    group = f"/apis/{names.GROUP}"
    resources = {"resources": [{"name": plural, "kind": kind} for plural, (kind, _) in kinds.items()]}
    made: dict[str, Any] = {group: {"versions": [{"groupVersion": f"{names.GROUP}/{V}"}]}, f"{group}/{V}": resources}
    for plural, (kind, objects) in kinds.items():
        one: dict[str, Any] = fake_kubectl.crd(plural, kind, [V], V)
        one["metadata"] |= {"deletionTimestamp": "2026-01-31T12:00:00Z"} if deleting else {}
        made[f"{installed.CRDS}/{plural}.{names.GROUP}"] = one
        made[f"{group}/{V}/{plural}"] = {"items": objects}
    return Cluster(made)


def test_kinds_are_found_by_asking_and_not_from_a_list() -> None:
    """A kind that no version had so far, and holds something, is found, and refused."""
    cluster = dws(vaults=("Vault", [an_object("Vault", "v")]), workflows=("Workflow", []), storages=("Storage", [IDLE]))
    seen = persistent_storage.read(cluster)  # type: ignore[arg-type]
    assert [one["path"] for one in seen["data"]] == [f"/apis/{names.GROUP}/{V}/namespaces/default/vaults/v"]
    assert seen["kept"] == ["Storage default/rabbit-1"]


def test_a_kind_whose_objects_are_not_served_is_no_empty_kind() -> None:
    """Nobody can say then what it holds: the look fails, and nothing is done."""
    cluster = dws(vaults=("Vault", []))
    del cluster.objects[f"/apis/{names.GROUP}/{V}/vaults"]
    with pytest.raises(ClusterError, match="not served"):
        persistent_storage.read(cluster)  # type: ignore[arg-type]


# --- what an undeploy left half deleted


def finalized(one: dict[str, Any]) -> dict[str, Any]:
    """It is being deleted, and DWS's finalizer holds it back."""
    meta = {"finalizers": [f"{names.GROUP}/x"], "deletionTimestamp": "2026-01-31T12:00:00Z"}
    return {**one, "metadata": {**one["metadata"], **meta}}


STUCK_KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "persistentstorageinstances": ("PersistentStorageInstance", a_psi("a")),
    "servers": ("Servers", some_servers("a", owner="Workflow-bb1")),
    "clientmounts": ("ClientMount", a_mount("a", "mounted")),
    "vaults": ("Vault", an_object("Vault", "a")),
}


def set_free(typed: str, cluster: Any, *, agreed: bool = True) -> list[Any]:
    """What an install of the very version that is there does about CRDs that are being deleted, `agreed`: after preflight."""
    place = a_place(typed)
    crds = installed.crds(cluster)
    here = installed.found(place)
    place.facts.found[installed.FACT.name] = {MASTER: {**here, "crds": crds}}
    (check,) = (one for one in dws_replace.checks("preflight") if one.name == "stuck")
    assert isinstance(check, Check)
    found = check.look(place).read(cluster)  # type: ignore[union-attr]
    if agreed:
        place.facts.first[stuck_crds.FACT.name] = place.facts.found[stuck_crds.FACT.name] = {MASTER: found}
        if told := check.judge(place, found):
            raise Refused(*told)
    step = stuck_crds.step("replace")
    place.facts.found["replace.stuck"] = {MASTER: step.look(place).read(cluster)}  # type: ignore[union-attr]
    assert step.read is not None and step.change is not None
    return list(step.change(place, step.read(place, place.facts.one(Fact[Any]("replace", "stuck"))), {}))


@pytest.mark.parametrize("plural", STUCK_KINDS)
@pytest.mark.parametrize(("typed", "goes"), [("", False), ("2", False), ("1", True), ("a", True)])
def test_no_finalizer_of_persistent_storage_is_cleared_unless_that_was_typed(
    plural: str, typed: str, goes: bool
) -> None:
    """It is the same guard as a deletion's: names or number; --yes says nothing. What is lost with the finalizer is said."""
    kind, one = STUCK_KINDS[plural]
    workflow = finalized(an_object("Workflow", "bb1"))
    cluster = dws(deleting=True, workflows=("Workflow", [workflow]), **{plural: (kind, [finalized(one)])})
    if goes:
        assert [type(one).__name__ for one in set_free(typed, cluster)] == [
            "Delete",
            "Delete",
            "RunScript",
            "RunScript",
        ]
        return
    for agreed in (True, False):
        with pytest.raises(Refused) as refused:
            set_free(typed, cluster, agreed=agreed)
        told = refused.value.findings
        assert "its storage stays allocated" in told[0].text
        assert (told[-1].name == "storage-not-agreed") == agreed
        assert f"{kind} default/a" in told[0].text


def test_what_came_since_is_not_set_free() -> None:
    """What was typed was typed for what was there then."""
    cluster = dws(deleting=True, persistentstorageinstances=("PersistentStorageInstance", [finalized(a_psi("a"))]))
    with pytest.raises(Refused):
        set_free("a", cluster, agreed=False)


def test_storage_in_a_kind_that_stays_does_not_keep_workflows_from_being_set_free() -> None:
    """Only what would be cleared is asked about."""
    cluster = dws(deleting=True, workflows=("Workflow", [finalized(an_object("Workflow", "bb1"))]))
    kept_kind = dws(persistentstorageinstances=("PersistentStorageInstance", [a_psi("a")]))
    resources = [one for some in (cluster, kept_kind) for one in some.objects[GROUP_PATH]["resources"]]
    cluster.objects = {**kept_kind.objects, **cluster.objects, GROUP_PATH: {"resources": resources}}
    assert [type(one).__name__ for one in set_free("", cluster)] == ["Delete", "Delete", "RunScript"]


# --- the last look, with the real sh and the master's Python


def a_kubectl(folder: Path, kinds: Mapping[str, str]) -> Path:
    """Makes a folder with a kubectl of ours and a cluster that has these kinds of DWS, by plural."""
    folder.mkdir(exist_ok=True)
    shutil.copy(str(fake_kubectl.__file__), folder / "kubectl")
    (folder / "kubectl").chmod(0o755)
    served = {plural: {"kind": kind, "served": ["v1alpha1", V], "storage": V} for plural, kind in kinds.items()}
    (folder / "crds.json").write_text(json.dumps(served))
    return folder


Site = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Runs the script that undeploys in a folder with a kubectl of ours; the folder `cluster` says what is there."""
    crds = {
        "workflows": "Workflow",
        "computes": "Computes",
        "persistentstorageinstances": "PersistentStorageInstance",
        "storages": "Storage",
        "systemconfigurations": "SystemConfiguration",
    }
    folder = a_kubectl(tmp_path / "cluster", crds)
    rendered = {"objects": [RULE]}
    place = a_place(found={"preflight.cluster": {"cert_manager": ["v1alpha3"]}, "workarea.rendered": rendered})

    def run(command: str = "touch done", again: bool = False, patience: int = 20) -> subprocess.Popen[str]:
        (action,) = remove.undeploy_actions(place, "0.0.20", {"CRDs": {}}, again=again)
        assert isinstance(action, RunScript)
        # what is awaited for a person's sake is not in a test
        text = action.script.replace('"known": 2', '"known": 0')
        if (folder / "late").exists():
            text = text.replace('"answer": 60', '"answer": 1')
        own = f"clone={tmp_path}\ncommand='{command}'\npatience={patience}\n"
        head = f"set -eu\numask 022\nSTATE={tmp_path}/state\nRUN=run-1\n"
        script = text.replace('cd "$clone"', f'{own}cd "$clone"', 1)
        return subprocess.Popen(
            ["sh", "-c", head + script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={"PATH": f"{folder}:/usr/bin:/bin"},
        )

    return run


def holds(tmp_path: Path, plural: str, *objects: dict[str, Any]) -> None:
    (tmp_path / "cluster" / f"{plural}.json").write_text(json.dumps(objects))


def changes(tmp_path: Path, **objects: list[dict[str, Any]]) -> None:
    """What somebody does right before the first deletion."""
    (tmp_path / "cluster/changed").write_text(json.dumps(objects))


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "cluster" / "calls").read_text().splitlines()


def test_dws_is_closed_looked_at_saved_removed_and_opened_in_this_order(site: Site, tmp_path: Path) -> None:
    """Nothing can come between the look and the deed: by then new objects are refused. The mark is there while it is half gone."""
    holds(tmp_path, "systemconfigurations", CONFIG)
    ran = site(
        "cp closed-by-now.sh /dev/null 2>/dev/null; ls cluster/closed state/before/run-1/.kept.json && touch done"
    )
    said, _ = ran.communicate(timeout=60)
    assert ran.returncode == 0 and (tmp_path / "done").exists(), said
    every = calls(tmp_path)
    order = [
        next(n for n, call in enumerate(every) if call.startswith(word))
        for word in (
            "apply",
            "create --dry-run=server",
            "get --raw /apis/dataworkflowservices",
            "annotate",
            "delete validating",
        )
    ]
    assert order == sorted(order)
    assert not (tmp_path / "cluster/closed").exists()
    # a run that is killed before DWS is open is known by its mark
    assert every[-2:] == [
        f"delete validatingwebhookconfiguration {closing.NAME} --ignore-not-found",
        f"annotate namespace dws-system {installed.UNFINISHED}-",
    ]
    marks = [call for call in every if call.startswith("annotate")]
    assert marks == [
        f"annotate namespace dws-system {installed.UNFINISHED}=0.0.20 --overwrite",
        f"annotate namespace dws-system {installed.UNFINISHED}-",
    ]


@pytest.mark.parametrize("how", ["in use", "otherwise", "not"])
def test_a_servers_that_gets_its_allocations_after_the_last_look_stops_it(site: Site, tmp_path: Path, how: str) -> None:
    """New objects are refused by then, changes are not: an idle one goes only as it was seen. One that was changed is looked at
    again, with all else, and stops it if it is in use now."""
    crds = json.loads((tmp_path / "cluster/crds.json").read_text())
    crds["servers"] = {"kind": "Servers", "served": [V], "storage": V}
    (tmp_path / "cluster/crds.json").write_text(json.dumps(crds))
    holds(tmp_path, "servers", some_servers("waiting", storages=()))
    later = some_servers("waiting", storages=("rabbit-1",) if how == "in use" else ())
    later["metadata"]["resourceVersion"] = "2"
    if how != "not":
        changes(tmp_path, servers=[later])
    ran = site()
    said, _ = ran.communicate(timeout=60)
    used = how == "in use"
    assert (ran.returncode, (tmp_path / "done").exists()) == ((3, False) if used else (0, True)), said
    assert not (tmp_path / "cluster/closed").exists()
    assert json.loads((tmp_path / "cluster/servers.json").read_text()) == ([later] if used else [])
    if used:
        assert "Servers default/waiting: has allocations" in said
        assert not any("annotate" in one for one in calls(tmp_path))


def test_later_changes_of_saved_objects_are_saved_too(site: Site, tmp_path: Path) -> None:
    """It goes only in the very state that is saved: what comes between the look and its deletion is the text that is put back."""
    newer = {**CONFIG, "metadata": {**CONFIG["metadata"], "resourceVersion": "2"}, "spec": {"storageNodes": []}}
    holds(tmp_path, "systemconfigurations", CONFIG)
    holds(tmp_path, "storages", IDLE)
    changes(tmp_path, systemconfigurations=[newer])
    ran = site("ls cluster/s*.json && cat cluster/s*.json >held", again=True)
    said, _ = ran.communicate(timeout=60)
    assert ran.returncode == 0, said
    assert (tmp_path / "held").read_text() == "[][]"  # by then nobody can change anything any more
    for file in ("state/put-back.json", "state/before/run-1/.kept.json"):
        items = {one["kind"]: one["spec"] for one in json.loads((tmp_path / file).read_text())["items"]}
        assert items == {"SystemConfiguration": newer["spec"], "Storage": IDLE["spec"]}


def test_what_cannot_be_saved_is_not_deleted(site: Site, tmp_path: Path) -> None:
    """The reason is a sentence, and no traceback: a disk is full, or cannot be written."""
    holds(tmp_path, "storages", IDLE)
    (tmp_path / "state").mkdir()
    (tmp_path / "state/before").write_text("not a folder")
    ran = site()
    said, _ = ran.communicate(timeout=60)
    assert ran.returncode == 1 and not (tmp_path / "done").exists(), said
    assert "DWS was not removed" in said and ".kept.json could not be written: " in said and "Traceback" not in said
    assert json.loads((tmp_path / "cluster/storages.json").read_text()) and not (tmp_path / "cluster/closed").exists()


def test_what_changes_all_the_time_stops_it(site: Site, tmp_path: Path) -> None:
    """It is named, and what had been deleted is there again."""
    holds(tmp_path, "systemconfigurations", CONFIG)
    holds(tmp_path, "storages", IDLE)
    (tmp_path / "cluster/fails").write_text(f"delete --raw /apis/{names.GROUP}/{V}/namespaces/default/systemconf")
    ran = site()
    said, _ = ran.communicate(timeout=60)
    assert ran.returncode == 3 and not (tmp_path / "done").exists(), said
    assert "SystemConfiguration default/default: Unable to connect" in said
    assert "put back, because DWS was not removed: Storage default/rabbit-1" in said
    (back,) = json.loads((tmp_path / "cluster/storages.json").read_text())
    assert back["spec"] == IDLE["spec"] and not (tmp_path / "cluster/closed").exists()


@pytest.mark.parametrize("stays", [True, False])
def test_deleted_objects_are_restored_where_dws_stays(site: Site, tmp_path: Path, stays: bool) -> None:
    """When `make undeploy` fails, whatever kinds are still there have their objects again; of the others, what was saved stays."""
    holds(tmp_path, "systemconfigurations", CONFIG)
    holds(tmp_path, "storages", IDLE)
    left = json.loads((tmp_path / "cluster/crds.json").read_text())
    if not stays:
        del left["storages"]
    (tmp_path / "left.json").write_text(json.dumps(left))
    ran = site("cp left.json cluster/crds.json; exit 2")
    said, _ = ran.communicate(timeout=60)
    assert ran.returncode == 2
    assert [one["kind"] for one in json.loads((tmp_path / "cluster/systemconfigurations.json").read_text())] == [
        "SystemConfiguration"
    ], said
    pending = tmp_path / "state/put-back.json"
    assert pending.exists() == (not stays) == ("could not be put back: Storage default/rabbit-1" in said)


def test_what_owns_others_goes_after_them() -> None:
    """Or else they would go with it, in a state that nobody has seen: also where a label alone says whose they are."""
    program = compile(render.read("master/last_look.py").rpartition("\n{")[0], "last_look", "exec")
    scope: dict[str, Any] = {**vars(dws_objects)}
    exec(program, scope)  # noqa: S102  # our own template, which has no name to import it by
    child = an_object("Servers", "child", owner="Storage-rabbit-1")
    labelled = an_object("Storage", "rabbit-1")
    labelled["metadata"]["labels"] = {dws_objects.OWNER: CONFIG["metadata"]["uid"]}
    ring = [an_object("Storage", "a", owner="Storage-b"), an_object("Storage", "b", owner="Storage-a")]
    going = [("systemconfigurations", CONFIG), ("storages", labelled), ("servers", child)]
    groups = [[dws_objects.label(one) for _, one in some] for some in scope["makers_last"](going)]
    assert groups == [["Servers default/child"], ["Storage default/rabbit-1"], ["SystemConfiguration default/default"]]
    assert len(list(scope["makers_last"]([("storages", one) for one in ring]))) == 1


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_what_make_began_ends_with_the_run(site: Site, tmp_path: Path, signal_: signal.Signals) -> None:
    """Ctrl-C, or an end from elsewhere, does not wait until `make undeploy` is through: that ends first, and DWS is opened."""
    os.mkfifo(tmp_path / "begun")
    ran = site('sh -c "echo >begun; sleep 900" | cat; touch through', patience=900)
    (tmp_path / "begun").read_text()
    os.kill(ran.pid, signal_)  # in a run `timeout` sends it to all of its group, and make has one of its own
    said, _ = ran.communicate(timeout=60)
    assert ran.returncode == 143, said  # and nobody holds the output open
    assert not (tmp_path / "through").exists() and not (tmp_path / "cluster/closed").exists()


def test_what_make_began_ends_also_where_timeout_ends_without_it(site: Site, tmp_path: Path) -> None:
    """As it does when a signal comes right between the beginning of its command and its own note of it."""
    timeout = tmp_path / "cluster/timeout"
    timeout.write_text(
        f"#!{sys.executable}\nimport os, subprocess, sys\nos.setpgid(0, 0)\nsubprocess.run(sys.argv[4:])\n"
    )
    timeout.chmod(0o755)
    os.mkfifo(tmp_path / "begun")
    ran = site('sh -c "echo >begun; sleep 900" | cat; touch through', patience=900)
    (tmp_path / "begun").read_text()
    ran.send_signal(signal.SIGTERM)
    said, _ = ran.communicate(timeout=60)
    assert ran.returncode == 143 and not (tmp_path / "through").exists(), said


def test_what_make_began_ends_at_its_deadline(site: Site, tmp_path: Path) -> None:
    """With all that it began, and with words of what is still there."""
    ran = site('trap "" TERM; sh -c "sleep 900" | cat', patience=1)
    said, _ = ran.communicate(timeout=60)
    assert ran.returncode in (124, 137) and "timed out after 1 s" in said
    assert not (tmp_path / "cluster/closed").exists()


@pytest.mark.parametrize(
    ("plural", "there"),
    [
        ("persistentstorageinstances", a_psi()),
        ("workflows", an_object("Workflow", "bb12")),
    ],
)
def test_what_came_meanwhile_stops_it_at_the_last_moment(
    site: Site, tmp_path: Path, plural: str, there: dict[str, Any]
) -> None:
    """It is named, nothing is deleted or marked as half gone, and DWS is opened again."""
    holds(tmp_path, plural, there)
    ran = site()
    said, _ = ran.communicate(timeout=60)
    assert ran.returncode == 3 and not (tmp_path / "done").exists()
    assert dws_objects.label(there) in said
    assert not (tmp_path / "cluster/closed").exists() and not any("annotate" in one for one in calls(tmp_path))


QUESTIONS = ("apply", "customresourcedefinitions", "persistentstorageinstances", "workflows", "storages")


@pytest.mark.parametrize(
    ("which", "how"), [*((one, "fails") for one in (*QUESTIONS, "annotate")), *((one, "late") for one in QUESTIONS)]
)
def test_an_api_that_does_not_answer_stops_it(site: Site, tmp_path: Path, which: str, how: str) -> None:
    """Whichever question it leaves open: no answer is no empty list. Nothing is deleted."""
    (tmp_path / "cluster" / how).write_text(which)
    ran = site()
    said, _ = ran.communicate(timeout=60)
    assert ran.returncode not in (0, 3) and not (tmp_path / "done").exists(), said
    assert not (tmp_path / "cluster/closed").exists()


def test_a_kind_that_serves_no_version_stops_it(site: Site, tmp_path: Path) -> None:
    """What it holds nobody can say."""
    crds = json.loads((tmp_path / "cluster/crds.json").read_text())
    crds["storages"]["served"] = []
    (tmp_path / "cluster/crds.json").write_text(json.dumps(crds))
    ran = site()
    said, _ = ran.communicate(timeout=60)
    assert ran.returncode == 1 and "serves no version" in said and not (tmp_path / "done").exists()


def test_dws_is_opened_again_where_the_undeploy_fails(site: Site, tmp_path: Path) -> None:
    """The exit code is make's; the mark stays, since nobody knows what is left."""
    ran = site("exit 2")
    ran.communicate(timeout=60)
    assert ran.returncode == 2 and not (tmp_path / "cluster/closed").exists()
    assert not any(call.endswith("undeploying-") for call in calls(tmp_path))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_dws_is_opened_again_by_a_script_that_is_ended(site: Site, tmp_path: Path, number: signal.Signals) -> None:
    """While make is at work, too."""
    ran = site("touch begun; until [ -e sent ]; do sleep 0.05; done; echo; echo")
    while not (tmp_path / "begun").exists():
        assert ran.poll() is None
        time.sleep(0.01)
    assert (tmp_path / "cluster/closed").exists()
    ran.send_signal(number)
    (tmp_path / "sent").touch()
    ran.communicate(timeout=60)
    assert ran.returncode == 143 and not (tmp_path / "cluster/closed").exists()


def test_dws_that_stays_closed_is_reported_as_a_failure(site: Site, tmp_path: Path) -> None:
    """With the command that opens it."""
    (tmp_path / "cluster/fails").write_text("delete validating")
    ran = site()
    said, _ = ran.communicate(timeout=60)
    assert ran.returncode == 1 and f"kubectl delete validatingwebhookconfiguration {closing.NAME}" in said


def test_a_request_in_flight_when_dws_is_closed_is_awaited(site: Site, tmp_path: Path) -> None:
    """It passed the admission before, and waits for a slow webhook: what it stores is seen, and nothing is removed."""
    rule = {"apiGroups": ["*"], "operations": ["CREATE"], "resources": ["*/*"]}
    slow = {"metadata": {"name": "policies"}, "webhooks": [{"timeoutSeconds": 3, "rules": [rule]}]}
    others = {
        "metadata": {"name": "x"},
        "webhooks": [{"timeoutSeconds": 300, "rules": [{**rule, "apiGroups": ["apps"]}]}],
    }
    (tmp_path / "cluster/mutatingwebhookconfigurations.json").write_text(json.dumps([slow, others]))
    ran = site("touch removed")
    made = tmp_path / "cluster/calls"
    while not made.exists() or "/validatingwebhookconfigurations" not in made.read_text():
        assert ran.poll() is None, ran.communicate()
        time.sleep(0.01)
    holds(tmp_path, "persistentstorageinstances", a_psi())
    said, _ = ran.communicate(timeout=60)
    assert ran.returncode == 3 and "scratch" in said and not (tmp_path / "removed").exists()


def test_objects_are_saved_for_root_alone_before_a_removal(site: Site, tmp_path: Path) -> None:
    """As a file for `kubectl create`; with another version to come, it is also what is to be put back."""
    holds(tmp_path, "systemconfigurations", CONFIG)
    holds(tmp_path, "storages", IDLE)
    ran = site(again=True)
    said, _ = ran.communicate(timeout=60)
    saved, pending = tmp_path / "state/before/run-1/.kept.json", tmp_path / "state/put-back.json"
    assert "2 objects are saved in" in said and "Storage default/rabbit-1" in said
    assert stat.S_IMODE(saved.stat().st_mode) == stat.S_IMODE(pending.stat().st_mode) == 0o600
    assert saved.read_text() == pending.read_text()
    content = json.loads(saved.read_text())
    assert (content["kind"], [one["kind"] for one in content["items"]]) == ("List", ["Storage", "SystemConfiguration"])
    assert content["items"][1]["spec"] == CONFIG["spec"]


def test_what_an_upgrade_that_was_cut_had_still_to_put_back_is_not_lost(site: Site, tmp_path: Path) -> None:
    """The next run finds less in the cluster than the first had saved: it keeps both, as they are now where they are there."""
    pending = tmp_path / "state/put-back.json"
    pending.parent.mkdir()
    pending.write_text(
        dws_objects.text(
            [*dws_objects.preserved({"dwdirectiverules": [RULE], "systemconfigurations": [CONFIG]}, set())]
        )
    )
    newer = {**CONFIG, "spec": {"storageNodes": []}}
    holds(tmp_path, "systemconfigurations", newer)
    ran = site(again=True)
    said, _ = ran.communicate(timeout=60)
    assert ran.returncode == 0, said
    items = {one["kind"]: one["spec"] for one in json.loads(pending.read_text())["items"]}
    assert items == {"SystemConfiguration": newer["spec"], "DWDirectiveRule": RULE["spec"]}


def test_an_undeploy_that_was_cut_has_still_all_it_had_saved(site: Site, tmp_path: Path) -> None:
    """The objects that went before the cut are in the file of the run that goes on."""
    holds(tmp_path, "systemconfigurations", CONFIG)
    crds = json.loads((tmp_path / "cluster/crds.json").read_text())
    del crds["systemconfigurations"]
    (tmp_path / "fewer.json").write_text(json.dumps(crds))
    ran = site("cp fewer.json cluster/crds.json; exit 2")
    ran.communicate(timeout=60)
    holds(tmp_path, "storages", IDLE)
    (tmp_path / "state/before/run-1/.kept.json").unlink()
    ran = site()
    ran.communicate(timeout=60)
    saved = json.loads((tmp_path / "state/before/run-1/.kept.json").read_text())
    assert sorted(one["kind"] for one in saved["items"]) == ["Storage", "SystemConfiguration"]
    assert not (tmp_path / "state/put-back.json").exists()


def test_a_plain_undeploy_puts_nothing_back_later(site: Site, tmp_path: Path) -> None:
    """It saves also what an upgrade that was cut had not put back, and no later install brings that by itself."""
    pending = tmp_path / "state/put-back.json"
    pending.parent.mkdir()
    pending.write_text(dws_objects.text(dws_objects.preserved({"dwdirectiverules": [RULE]}, set())))
    ran = site()
    ran.communicate(timeout=60)
    saved = json.loads((tmp_path / "state/before/run-1/.kept.json").read_text())
    assert [one["kind"] for one in saved["items"]] == ["DWDirectiveRule"] and not pending.exists()


def test_the_look_on_the_master_is_in_the_words_of_its_python() -> None:
    """3.6 on SLES 15; and it is the very text that judges before anything is touched."""
    program = open_dws.PROGRAM + render.read("master/dependents.py") + render.read("master/last_look.py")
    ast.parse(program, feature_version=(3, 6))
    assert "capture_output" not in program and "fromisoformat" not in program and "from __future__" not in program
    assert len(program) < 100_000


# --- put back


def of_deploy(name: str) -> Step:
    (step,) = (one for one in kept_configuration.STEPS if one.name == name)
    return step


def test_missing_and_different_objects_are_restored_and_compared() -> None:
    """Whatever new DWS or a driver added stays; a second look finds all of it as it was saved."""
    saved = dws_objects.preserved(
        {"storages": [IDLE], "systemconfigurations": [CONFIG], "dwdirectiverules": [RULE]}, set()
    )
    cluster = dws(
        storages=("Storage", []),
        systemconfigurations=("SystemConfiguration", []),
        dwdirectiverules=("DWDirectiveRule", []),
    )
    at = f"/apis/{names.GROUP}/{V}/namespaces/default"
    cluster.objects[f"{at}/systemconfigurations/default"] = {
        **saved[2],
        "metadata": {**saved[2]["metadata"], "uid": "new"},
        "spec": {"storageNodes": [], "portsCooldownInSeconds": 60},
    }
    assert [one["kind"] for one in saved] == ["DWDirectiveRule", "Storage", "SystemConfiguration"]
    before = kept_configuration.states(cluster, saved)  # type: ignore[arg-type]
    assert before["Storage default/rabbit-1"]["state"] == "missing"
    assert "storageNodes" in before["SystemConfiguration default/default"]["state"]
    kept_configuration.put(cluster, saved)  # type: ignore[arg-type]
    after, step = kept_configuration.states(cluster, saved), of_deploy("kept")  # type: ignore[arg-type]
    assert {one["state"] for one in after.values()} == {"as saved"}
    place = a_place(found={"deploy.saved": saved})
    assert step.read is not None and step.read(place, after) == step.want(place)


@pytest.mark.parametrize(("older", "dws_version"), [(False, "0.0.20"), (True, "0.0.20"), (True, "0.1.9")])
def test_objects_recreated_by_others_stay(older: bool, dws_version: str) -> None:
    """Where its kind was there before this run, and no version goes in it: that is said, and what was saved is not thrown away.
    What DWS or a driver has made in this very run gives way to what was saved; what is missing is made in any case."""
    saved = dws_objects.preserved({"storages": [IDLE], "systemconfigurations": [CONFIG]}, set())
    cluster = dws(storages=("Storage", []), systemconfigurations=("SystemConfiguration", []))
    at = f"/apis/{names.GROUP}/{V}/namespaces/default/systemconfigurations/default"
    newer = {**CONFIG, "metadata": {**CONFIG["metadata"], "uid": "new"}, "spec": {"storageNodes": []}}
    cluster.objects[at] = newer
    crds = installed.crds(cluster) if older else {}  # type: ignore[arg-type]
    there = {"tag": "0.0.20", "unfinished": "", "namespace": True, "traces": ["x"], "crds": crds}
    place = a_place(found={"deploy.saved": saved, installed.FACT.name: there}, dws=dws_version)

    def look() -> Any:
        place.facts.found["deploy.kept"] = {MASTER: kept_configuration.states(cluster, saved)}  # type: ignore[arg-type]
        step = of_deploy("kept")
        assert step.read is not None
        return step.read(place, place.facts.one(Fact[Any]("deploy", "kept"))), step.want(place)

    have, want = look()
    assert have != want
    step, settled = of_deploy("kept"), of_deploy("saved")
    assert step.change is not None and settled.change is not None and step.status_text is not None
    (action,) = step.change(place, have, want)
    assert isinstance(action, CallApi)
    action.ask(cluster)  # type: ignore[arg-type]
    have, want = look()
    assert have == want
    stays = older and dws_version == "0.0.20"
    assert (cluster.objects[at]["spec"] == newer["spec"]) == stays
    assert f"/apis/{names.GROUP}/{V}/namespaces/default/storages/rabbit-1" in cluster.objects
    assert (
        ("SystemConfiguration default/default" in step.status_text(have))
        == (kept_configuration.leftover() in step.status_text(have))
        == stays
    )
    (last,) = settled.change(place, [], [])
    assert isinstance(last, RunScript) and last.script.startswith("mv " if stays else "rm ")


def test_what_never_went_is_left_as_it_is_now() -> None:
    """Where a removal failed before it took an object away, what somebody changed of that since is newer than what was saved."""
    (saved,) = dws_objects.preserved({"storages": [IDLE]}, set())
    cluster = dws(storages=("Storage", []))
    changed = {**saved, "spec": {"state": "Disabled"}}
    at = f"/apis/{names.GROUP}/{V}/namespaces/default/storages/rabbit-1"
    cluster.objects[at] = changed
    kept_configuration.put(cluster, [saved])  # type: ignore[arg-type]
    assert cluster.objects[at] == changed
    assert [one["state"] for one in kept_configuration.states(cluster, [saved]).values()] == ["as saved"]  # type: ignore[arg-type]


def test_what_dws_notes_for_itself_while_it_converts_is_not_compared() -> None:
    """The note has also what is not put back; any other annotation counts."""
    note = f"{names.GROUP}/conversion-data"
    (saved,) = dws_objects.preserved({"storages": [IDLE]}, set())
    saved["metadata"]["annotations"] = {note: "before", "slot": "7"}
    at = f"/apis/{names.GROUP}/{V}/namespaces/default/storages/rabbit-1"
    told: list[str] = []
    for notes in ({note: "now", "slot": "7"}, {note: "now", "slot": "8"}):
        cluster = dws(storages=("Storage", []))
        cluster.objects[at] = {**saved, "metadata": {**saved["metadata"], "uid": "new", "annotations": notes}}
        told += [one["state"] for one in kept_configuration.states(cluster, [saved]).values()]  # type: ignore[arg-type]
    assert told == ["as saved", 'metadata.annotations.slot is "8", not "7"']


def test_a_kind_that_the_new_dws_does_not_serve_is_reported() -> None:
    """What is kept of it lies where it lay, and the run fails by name."""
    saved = dws_objects.preserved({"storages": [IDLE]}, set())
    with pytest.raises(ClusterError, match="Storage is not served"):
        kept_configuration.put(dws(workflows=("Workflow", [])), saved)  # type: ignore[arg-type]


def test_a_dws_that_was_left_closed_is_opened_by_an_install() -> None:
    """Also where the run that had closed it was killed, and nobody undeploys again."""
    cluster = Cluster({closing.PATH: closing.CONFIGURATION})
    look = open_dws.STEP.look(a_place())
    assert look.read(cluster) == "closed" and open_dws.STEP.change is not None  # type: ignore[union-attr,arg-type]
    (action,) = open_dws.STEP.change(a_place(), "closed", "open")
    assert isinstance(action, RunScript) and action.script.endswith(f"{closing.NAME} --ignore-not-found")


def test_every_task_that_brings_or_takes_dws_opens_it() -> None:
    """An undeploy where nothing is left, too, and a rollback that leaves DWS as it is."""
    goal = RollbackTarget("1", "leave", {}, (), {})
    for stages in (
        STAGES,
        undeploy.stages(),
        *(procedure.stages(replace(goal, dws=dws), "c") for dws in get_args(Dws)),
    ):
        steps = [step for stage in stages for step in stage.steps]
        (opened,) = (step for step in steps if step.name == open_dws.STEP.name)
        removed = [step.name for step in steps].index("removed") if "removed" in [step.name for step in steps] else -1
        assert steps.index(opened) > removed


def test_dws_is_not_opened_while_the_script_that_closed_it_is_at_work(tmp_path: Path) -> None:
    """Whoever began it is gone; a run that comes then changes nothing at all, on the hosts or by the API, and says why."""
    host = LocalHost(tmp_path)
    state, begun, sent = (tmp_path / name for name in ("state", "begun", "sent"))
    patch = pytest.MonkeyPatch()
    for name in ("LIBRARY", "FENCE"):
        text = getattr(host_script, name).replace("-w 90", "-w 1").replace("-w 60", "-w 1")
        patch.setattr(host_script, name, text)
    left_behind = compile_actions(
        [RunScript("undeploy", f"touch {begun}; until [ -e {sent} ]; do sleep 0.05; done")], "run-1", "m"
    )
    at_work = subprocess.Popen(["sh", "-c", left_behind[0]], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    reach = Reach(lambda name: host, pytest.fail, lambda role: MASTER)
    try:
        while not begun.exists():
            assert at_work.poll() is None
            time.sleep(0.01)
        opened = compile_actions([RunScript("reopen DWS", f"touch {tmp_path}/opened")], "run-2", "m")[0]
        assert host.run(opened, deadline=60).code == host_script.BUSY and not (tmp_path / "opened").exists()
        with pytest.raises(Unreachable, match=host_script.STILL):
            before_images.record_begin(reach, "run-2", "install", "", None)
        assert not (state / "before/run-2/.opened").exists()
    finally:
        sent.touch()
        at_work.wait(60)
        patch.undo()
    for module in ("engine.before_images", "engine.host_script"):
        patch.setattr(f"dws_on_csm.{module}.STATE", str(state))
    before_images.record_begin(reach, "run-2", "install", "", None)
    patch.undo()
    assert (state / "before/run-2/.opened").exists()
