"""A rollback's target, from the hosts' records: which run, which files and objects, and what stays."""

import base64
import hashlib
import json
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dws_on_csm.commands.history import former_state, rollback, rollback_target
from dws_on_csm.commands.history import journal as past_runs
from dws_on_csm.commands.history.former_state import FormerState
from dws_on_csm.commands.history.host_record import parse_host_record
from dws_on_csm.commands.history.rollback import half_removed_text, own_lines
from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.config.site import Site
from dws_on_csm.display.select import Display
from dws_on_csm.domain import dws_objects, names
from dws_on_csm.engine.host_script import compile_actions
from dws_on_csm.engine.perform import perform_in_cluster
from dws_on_csm.engine.reach import ClusterLease, Reach, StepReporter
from dws_on_csm.engine.state import Run
from dws_on_csm.kube import objects as kube_objects
from dws_on_csm.model import snapshot
from dws_on_csm.model.actions import Delete, RunScript
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.model.snapshot import ABSENT, Dws, FileSnapshot, ObjectSnapshot, RollbackTarget
from dws_on_csm.model.step import ApiLook, Check, Fact, Facts, Finding, Refused, ShellLook, Step, StepContext
from dws_on_csm.runner import past_runs as runner_past_runs
from dws_on_csm.runner import run as runner_run
from dws_on_csm.runner.options import Options
from dws_on_csm.runner.past_runs import PastRun
from dws_on_csm.stages.access import revoked_names
from dws_on_csm.stages.dws import closing, installed, slurm_clusters
from dws_on_csm.stages.rollback import files, objects, procedure, unchanged
from dws_on_csm.stages.slurm import slurmctld, start
from tests.unit.conftest import LocalHost
from tests.unit.site_files import MINIMAL, write

LUA = "/etc/slurm/burst_buffer.lua"
CONTENT = base64.b64encode(b"text\n").decode()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with a master and a controller."""
    return load(write(tmp_path, MINIMAL))


def past(
    run: str, undoes: str = "", code: int | None = 0, changed: bool = True, on: str = "m", without: str = ""
) -> PastRun:
    """A run that changed something on each host of `on`, or not; a rollback may have left some out."""
    steps = {host: ["deploy.applied"] for host in on} if changed else {}
    out = frozenset(without)
    return PastRun(
        run, "rollback" if undoes else "install", code=code, changed=steps, undoes=undoes, kept=True, without=out
    )


@pytest.mark.parametrize(
    ("runs", "chosen"),
    [
        ([past("1"), past("2")], "2"),
        ([past("1"), past("2", code=None)], "2"),
        ([past("1"), past("2", changed=False)], "1"),
        ([past("1"), past("2"), past("3", undoes="2")], "1"),
        ([past("1"), past("2"), past("3", undoes="1")], None),
        ([past("1"), past("2", undoes="1"), past("3")], "3"),
        ([past("1"), past("2", undoes="1", code=1)], "1"),
        ([past("1"), past("2", undoes="1", code=None)], "1"),
        ([past("1"), past("2"), past("3", undoes="2"), past("4", undoes="3")], "2"),
        ([past("1", on="mab"), past("2", undoes="1", without="b")], "1"),
        ([past("1", on="ma"), past("2", undoes="1", without="b")], None),
        ([past("1", on="mab"), past("2", undoes="1", without="b"), past("3", undoes="1", without="ma")], None),
        ([past("1", on="b"), past("2", on="mab"), past("3", undoes="1", without="b")], "2"),
        ([past("1", on="a"), past("2", on="b"), past("3", undoes="1", without="b")], "2"),
        ([past("1", on="a"), past("2", on="b"), past("3", undoes="1", without="a")], "1"),
        ([past("1", on="ab"), past("2", undoes="1"), past("3", undoes="2", without="b")], "1"),
    ],
)
def test_which_run(runs: Sequence[PastRun], chosen: str | None) -> None:
    """By default it is the last that changed something and is not undone on all hosts; a failed rollback undid nothing,
    and one that left hosts out undid nothing there."""
    found = runner_past_runs.last(runs)
    assert (found.id if found else None) == chosen


def test_a_run_writes_which_hosts_it_leaves_out(local_host: LocalHost, tmp_path: Path) -> None:
    """A rollback that left out hosts, by --limit or since one did not respond, records that on the master; the journal shows it."""
    site = load(write(tmp_path, MINIMAL))
    master, controller = site.master.host.name, site.controllers[0].name
    reach = Reach(lambda name: local_host, lambda: None, lambda role: "one")
    for limit, answers, without in (
        (None, [controller], []),
        ({master}, [controller], [controller]),
        (None, [], [controller]),
    ):
        run = f"r{len(local_host.scripts)}"
        narrowed = replace(site, limit=None if limit is None else frozenset(limit))
        roles = {"master": (master,), "controller": tuple(answers), "submitter": ()}
        made = Run(run, narrowed, [], reach, lambda event: None, roles)
        assert (
            runner_run.change_site(made, Options("rollback", undoes="r"), Display(lambda event: None), ClusterLease())
            == ""
        )
        told = runner_past_runs.from_records(
            master, {master: local_host.run(runner_past_runs.script(), deadline=60).out.decode().splitlines()}
        )
        assert (told[run].without, told[run].undoes) == (frozenset(without), "r")
        assert told[run].controllers == {controller}
        (line,) = list(past_runs.runs_text([told[run]]))
        assert ("rollback of r, without " in line) == bool(without) and all(host in line for host in without)
        assert past_runs.run_record(told[run])["without"] == without


def test_which_run_where_another_slurm_has_runs_too(tmp_path: Path) -> None:
    """By default it is the last of this site file's own; without any, there is nothing to roll back."""
    site = load(write(tmp_path, MINIMAL))
    own = replace(past("1"), controllers=frozenset({site.controllers[0].name}))
    others = replace(past("2"), controllers=frozenset({"b1"}))
    assert rollback.choose_run([own, others], "", site) is own
    with pytest.raises(rollback.CannotRollBack, match="Nothing to roll back"):
        rollback.choose_run([others], "", site)


@pytest.mark.parametrize(
    ("runs", "wanted", "refused"),
    [
        ("AB", "1", "2"),
        ("AB", "2", "2"),
        ("BA", "2", ""),
        ("AA", "1", ""),
        ("A?", "1", ""),
        ("ABb", "1", ""),
    ],
)
def test_no_run_of_another_slurms_site_file_is_undone(tmp_path: Path, runs: str, wanted: str, refused: str) -> None:
    """Two Slurms with one DWS have one master: a rollback of one would take the other's rights, and reach none of its hosts."""
    site = load(write(tmp_path, MINIMAL))
    own = frozenset({site.controllers[0].name})
    known = {"A": own, "B": frozenset({"b1", "b2"}), "b": frozenset({"b1", "b2"}), "?": frozenset[str]()}
    found = [
        replace(past(str(number), on="m", undoes="2" if whose == "b" else ""), controllers=known[whose])
        for number, whose in enumerate(runs, 1)
    ]
    chosen = next(run for run in found if run.id == wanted)
    if not refused:
        rollback.refuse_other_sites(found, chosen, site)
        return
    with pytest.raises(rollback.CannotRollBack, match=rf"Run {refused} .*controllers b\[1-2\]"):
        rollback.refuse_other_sites(found, chosen, site)


def test_the_oldest_image_counts() -> None:
    """A file that several runs changed gets its state before the first; now it may be what the last one left, or found."""
    found = parse_host_record(
        [
            f"image 1 644 root:root aaa {CONTENT} {LUA}",
            f"left 1 bbb {LUA}",
            f"image 2 600 root:root ccc - {LUA}",
            f"left 2 ddd {LUA}",
            f"left 2 eee {LUA}",
        ]
    )
    left = frozenset({"ccc", "ddd", "eee"})
    assert found.files[LUA] == FileSnapshot(LUA, "1", "644", "root:root", "aaa", left, b"text\n", LUA)


def test_a_file_that_was_not_there() -> None:
    """A file that a run created is removed, also if the run was interrupted before it wrote the file."""
    assert parse_host_record([f"absent 1 {LUA}"]).files[LUA].left == {ABSENT}
    assert parse_host_record([f"absent 1 {LUA}", f"left 1 bbb {LUA}"]).files[LUA].left == {ABSENT, "bbb"}


ROLE = "/apis/rbac.authorization.k8s.io/v1/clusterroles/workload-manager"


@pytest.mark.parametrize(
    ("after", "known"),
    [
        (['{"path": "%s", "left": "f"}'], {"f", kube_objects.fingerprint(None)}),
        ([], set()),
        (['{"path": "%s", "le'], set()),
        (['{"path": "%s", "left": "f"}', '{"path": "%s", "step": "access.role", "before": null}'], set()),
    ],
)
def test_objects_of_an_interrupted_run(after: Sequence[str], known: set[str]) -> None:
    """Where a run was interrupted between its record of an object and the change, what it left is unknown."""
    first = '{"path": "%s", "step": "access.role", "before": null}'
    found = parse_host_record([f"object 1 {line % ROLE if '%s' in line else line}" for line in [first, *after]])
    things, _ = former_state.object_targets(found, FormerState(), "leave", None, frozenset())
    assert [(thing.path, thing.before, set(thing.left)) for thing in things] == [(ROLE, None, known)]


THERE = {"tag": "0.0.20", "unfinished": "", "traces": ["D"], "crds": []}
NONE = {"tag": "", "unfinished": "", "traces": [], "crds": []}


CRD = f"{installed.CRDS}/workflows.{names.GROUP}"
SERVICE = f"/api/v1/namespaces/{names.NAMESPACE}/services/dws-webhook-service"
OF_A_VERSION = "/apis/rbac.authorization.k8s.io/v1/clusterroles/dws-workload-manager"


def state(then: Mapping[str, Any], *later: Mapping[str, Any]) -> FormerState:
    """The state before the first of runs that read these states, of which the last one is the present."""
    every = [replace(past(str(number)), installed=one) for number, one in enumerate((then, *later), 1)]
    return former_state.before_run(every[0], every, "m", every[-1].installed or {})


@pytest.mark.parametrize("path", [CRD, SERVICE, OF_A_VERSION])
@pytest.mark.parametrize(
    ("then", "step", "goes"),
    [(NONE, "deploy.applied", True), (THERE, "deploy.applied", False), (THERE, "objects.objects", False)],
)
@pytest.mark.parametrize("replaced", [False, True])
def test_no_object_of_a_dws_that_was_there_goes(
    path: str, then: Mapping[str, Any], step: str, goes: bool, replaced: bool
) -> None:
    """An object that did not exist before a run is removed only where DWS was not installed then, whichever run recorded it."""
    found = parse_host_record([f'object 1 {{"path": "{path}", "step": "{step}", "before": null}}'])
    dws: Dws = "remove" if goes else "leave"
    things, _ = former_state.object_targets(found, replace(state(then), replaced=replaced), dws, None, frozenset())
    assert bool(things) == goes


@pytest.mark.parametrize(("later", "comes"), [([], True), ([NONE], False), ([THERE], True), ([NONE, THERE], False)])
def test_an_object_that_a_run_repaired(later: Sequence[Mapping[str, Any]], comes: bool) -> None:
    """A changed object is restored, unless DWS was removed since: then the restored version brings its own."""
    was = {"kind": "Service", "metadata": {"name": "s"}}
    found = parse_host_record(
        [f'object 1 {{"path": "{SERVICE}", "step": "deploy.applied", "before": {json.dumps(was)}}}']
    )
    things, _ = former_state.object_targets(found, state(THERE, *later), "leave", None, frozenset())
    assert [thing.before for thing in things] == ([was] if comes else [])


def test_a_step_says_that_dws_went_as_a_whole() -> None:
    """Also where no run read the state in between, and DWS is installed again."""
    runs = [replace(past("1"), installed=THERE, changed={"m": ["undeploy.removed"]}), past("2")]
    assert former_state.before_run(runs[0], runs, "m", THERE).replaced


def test_what_became_of_objects_is_not_known_once_dws_went_as_a_whole() -> None:
    """An object that an undeploy removed since, without a record of each object, does not count as changed."""
    records = [{"path": SERVICE, "step": "deploy.applied", "before": {"kind": "S", "metadata": {}}}]
    records += [{"path": SERVICE, "left": "f"}]
    found = parse_host_record([f"object 1 {json.dumps(one)}" for one in records])
    crds = {**NONE, "crds": ["storages"]}
    left = [
        former_state.object_targets(found, state(crds, *more), "leave", None, frozenset())[0][0].left
        for more in ([], [THERE])
    ]
    assert [bool(one) for one in left] == [True, False]


@pytest.mark.parametrize("step", ["open.open", "deploy.open", "undeploy.open"])
@pytest.mark.parametrize("then", [NONE, THERE, {**THERE, "crds": ["workflows"], "unfinished": "0.0.20"}])
def test_no_rollback_closes_dws(step: str, then: Mapping[str, Any]) -> None:
    """A run that reopened DWS, which an interrupted removal had left closed, is undone, but DWS stays open."""
    records = [{"path": closing.PATH, "step": step, "before": closing.CONFIGURATION}]
    records += [{"path": closing.PATH, "left": "absent"}]
    found = parse_host_record([f"object 1 {json.dumps(one)}" for one in records])
    for was in (FormerState(), state(then), replace(state(then), replaced=True)):
        for dws in get_args(Dws):
            assert former_state.object_targets(found, was, dws, None, frozenset()) == ([], [])


@pytest.mark.parametrize("dws", ["remove", "install"])
@pytest.mark.parametrize("same", [True, False])
def test_what_there_is_of_dws_is_looked_at_again_right_before_it_goes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dws: Dws, same: bool
) -> None:
    """A target depends on the DWS at its time: another DWS that was installed since is neither removed nor replaced."""
    now = {"tag": "0.0.20", "unfinished": "", "namespace": True, "traces": ["D"], "crds": {}}
    later = now if same else {**now, "tag": "0.1.12"}
    monkeypatch.setattr("dws_on_csm.stages.dws.installed.read", lambda cluster: later)
    goal = RollbackTarget("1", dws, {}, (), {}, now=now)
    wanted = load(write(tmp_path, MINIMAL))
    # of an install there is DWS to go, or there is none: then it is looked at when DWS is to come
    for there in (now, {**now, "tag": wanted.versions.dws}):
        place = StepContext(wanted, Facts({installed.FACT.name: {"m": there}}), "m")
        told: list[Finding] = []
        for stage in procedure.stages(goal, "c")[1:]:
            steps = [one.name for one in stage.steps]
            for check in (one for one in stage.steps if isinstance(one, Check) and one.name == "since-dws"):
                assert "removed" not in steps or steps.index("since-dws") < steps.index("removed")
                look = check.look(place)
                told += check.judge(place, look.read(None) if isinstance(look, ApiLook) else None)  # type: ignore[arg-type]
        assert {one.name for one in told} == (set() if same else {"run-since"})


def test_the_mark_of_an_undeploy_does_not_come_back() -> None:
    """The mark of an unfinished undeploy is not restored; the namespace's other metadata is."""
    marks = {installed.UNFINISHED: "0.0.20", "mine": "yes"}
    space = {"kind": "Namespace", "metadata": {"name": "n", "annotations": marks}}
    record = {"path": installed.NAMESPACE, "step": "undeploy.removed", "before": space}
    (thing,), _ = former_state.object_targets(
        parse_host_record([f"object 1 {json.dumps(record)}"]), state(NONE), "leave", None, frozenset()
    )
    assert thing.before and thing.before["metadata"] == {"name": "n", "annotations": {"mine": "yes"}}


@pytest.mark.parametrize(("now", "what"), [(NONE, "leave"), (THERE, "remove")])
def test_a_mark_alone_is_no_dws(now: Mapping[str, Any], what: str) -> None:
    """Where an interrupted undeploy had left only its mark, there is nothing to do as long as that is so."""
    marked = {**NONE, "unfinished": "0.0.20"}
    found = {**now, "unfinished": "0.0.20" if now is NONE else ""}
    assert former_state.dws_action(state(marked, found), found) == what


def test_a_crd_goes_with_an_undeploy_alone() -> None:
    """Only an undeploy checks what its objects hold."""
    path = f"{installed.CRDS}/workflows.{names.GROUP}"
    found = parse_host_record([f'object 1 {{"path": "{path}", "step": "deploy.applied", "before": null}}'])
    was = former_state.FormerState(known=True, crds=frozenset({"storages"}))
    things, said = former_state.object_targets(found, was, "leave", None, frozenset())
    assert things == [] and "invoke undeploy" in said[0]


def test_a_dws_without_a_version_is_not_restored_and_the_fix_is_named() -> None:
    """Its image's tag is no version: the sentence has the tag, what stays, and what to do."""
    was = state({**THERE, "tag": "latest"}, THERE)
    assert was.lost and former_state.dws_action(was, THERE) == "leave"
    (told,) = former_state.describe_dws(was, THERE)
    assert "stays as it is now (DWS 0.0.20)" in told and "the tag latest" in told and "set versions.dws" in told
    assert "(not installed)" in former_state.describe_dws(was, NONE)[0]


@pytest.mark.parametrize("dws", ["leave", "remove", "install"])
def test_a_deleted_orphan_is_not_restored(dws: Dws) -> None:
    """Nothing would ever remove it; and before DWS was installed it did not exist either."""
    path = f"/apis/{names.GROUP}/v1alpha2/namespaces/default/workflows/bb10"
    record = f'{{"path": "{path}", "step": "undeploy.orphans", "before": {{"kind": "Workflow", "metadata": {{}}}}}}'
    made, said = former_state.object_targets(
        parse_host_record([f"object 1 {record}"]), FormerState(), dws, None, frozenset()
    )
    assert made == [] and [line.partition(":")[0] for line in said] == ["Workflow bb10 is not recreated"]


def recorded(user: str) -> dict[str, Any]:
    """The record of the Slurm clusters that use this DWS, with one."""
    entry = {"user": user, "cluster": "x", "namespace": "default", "writes": "v1alpha2", "controllers": ["c"]}
    return {"kind": "ConfigMap", "metadata": {}, "data": {user: json.dumps({**entry, "subjects": [f"User {user}"]})}}


@pytest.mark.parametrize(("revoked", "paths"), [("old", []), ("another", [slurm_clusters.PATH])])
def test_the_record_of_slurm_clusters_names_nobody_who_was_revoked(revoked: str, paths: list[str]) -> None:
    """It stays as it is where its former text has a revoked name: the binding does not get that name back either."""
    record = {"path": slurm_clusters.PATH, "step": "access.slurm-cluster", "before": recorded("old")}
    found = parse_host_record([f"object 1 {json.dumps(record)}"])
    made, _ = former_state.object_targets(found, FormerState(), "leave", None, frozenset({revoked}))
    assert [one.path for one in made] == paths


@pytest.mark.parametrize("path", [former_state.BINDING, former_state.INTERIM_BINDING])
def test_revoked_names_are_not_restored(path: str) -> None:
    """The binding is restored with its former role, for the present name, without revoked names; their record stays. So is what an
    interrupted run had left in place of it."""
    old = {"kind": "x", "metadata": {}, "roleRef": {"name": "then"}, "subjects": [{"name": "old"}, {"name": "both"}]}
    now = {"roleRef": {"name": "now"}, "subjects": [{"name": "new"}, {"name": "both"}]}
    records = [
        {"path": path, "step": "access.binding", "before": old},
        {"path": revoked_names.PATH, "step": "access.recorded", "before": None},
        {"path": slurm_clusters.PATH, "step": "access.slurm-cluster", "before": recorded("old")},
    ]
    found = parse_host_record([f"object 1 {json.dumps(one)}" for one in records])
    (made,), said = former_state.object_targets(found, FormerState(), "leave", now, frozenset({"old"}))
    assert made.path == path and made.before and made.before["roleRef"] == {"name": "then"}
    assert former_state.subjects(made.before) == {"both", "new"}
    assert "is restored without old" in said[0] and "stay revoked" in said[1]


@pytest.mark.parametrize(
    ("was", "now", "what"),
    [
        (("", []), "0.0.20", "remove"),
        (("", []), "", "leave"),
        (("0.0.20", ["D"]), "0.0.20", "leave"),
        (("0.0.19", ["D"]), "0.0.20", "install"),
        (("0.0.20", ["D"]), "", "install"),
    ],
)
def test_dws(was: tuple[str, list[str]], now: str, what: str) -> None:
    """DWS is removed where it was not installed, installed in its former version, and left alone where it is the same, or
    where somebody else deploys it."""
    tag, traces = was
    then = replace(past("1"), installed={"tag": tag, "unfinished": "", "traces": traces, "crds": []})
    found = {"tag": now, "unfinished": "", "traces": ["D"] if now else [], "crds": {}}
    assert former_state.dws_action(former_state.before_run(then, [then], "m", found), found) == what
    site = load(DEFAULT)
    assert former_state.dws_action(rollback_target.former_dws(site, then, [then], found), found) == what
    theirs = rollback_target.former_dws(replace(site, dws="external"), then, [then], found)
    assert former_state.dws_action(theirs, found) == "leave"


@pytest.mark.parametrize(
    "line",
    [
        'opened r1 {"run": "r1", "task": "x", "by": "x", "at": 1, "undoes": "", "installed": null}',
        'opened r2 {"run": "r2", "task": "x", "by": "x", "at": 1, "undoes": "r1", "installed": null}',
        'event r1 {"event": "summary", "exit": 1, "message": "no"}',
        'event r2 {"event": "opened", "task": "install", "at": 1}',
        "step r2 undeploy.removed",
    ],
)
def test_what_a_controller_says_of_runs(line: str) -> None:
    """Only the master records what a run was, the state before it and its result: a controller adds no run."""
    head = {"run": "r1", "task": "install", "by": "me", "at": 1.0, "undoes": "", "installed": THERE}
    master = [f"opened r1 {json.dumps(head)}", 'event r1 {"event": "summary", "exit": 0, "message": "done"}']
    told = runner_past_runs.from_records("m", {"c": [line, "step r1 plugin.lua"], "m": master})
    assert list(told) == ["r1"]
    run = told["r1"]
    assert (run.installed, run.task, run.code, run.changed) == (THERE, "install", 0, {"c": ["plugin.lua"]})


def test_a_controller_says_nothing_of_the_cluster() -> None:
    """Only the master removes DWS: a controller's line of such a step does not count."""
    run = replace(past("1"), installed=THERE, changed={"c": ["undeploy.removed"]})
    assert not former_state.before_run(run, [run], "m", THERE).replaced


# --- kubeconfigs


def certificate(name: str, days: int, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate (PEM) for `name`, signed by `key` under the name "ca", that expires in so many days."""
    subject, issuer = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in (name, "ca"))
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    made = made.serial_number(7).not_valid_before(now - timedelta(days=99)).not_valid_after(now + timedelta(days=days))
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


OURS, OTHER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))


@pytest.mark.parametrize(
    ("name", "days", "key", "why"),
    [
        ("slurm-dws", 9, OURS, ""),
        ("slurm-dws", -1, OURS, "its certificate expired on"),
        ("slurm-dws", 9, OTHER, "not signed by"),
        ("old", 9, OURS, "old was revoked"),
        ("other", 9, OURS, "no rights any more"),
    ],
)
def test_kubeconfigs(site: Site, name: str, days: int, key: ec.EllipticCurvePrivateKey, why: str) -> None:
    """A kubeconfig is restored only if it works: not an expired or revoked one, nor one of another CA or name."""
    image = f"image 1 600 slurm:slurm aaa ? {names.KUBECONFIG}"
    found = parse_host_record(
        [
            f"certificate 1 {base64.b64encode(certificate(name, days, key)).decode()} {names.KUBECONFIG}",
            image,
            f"left 1 bbb {names.KUBECONFIG}",
        ]
    )
    known = rollback_target.AccessNow(
        certificate("ca", 9, OURS), {"subjects": [{"name": "slurm-dws"}]}, frozenset({"old"})
    )
    files, said, anew = rollback_target.file_targets(site, "c1", found, True, known)
    assert (names.KUBECONFIG in files, anew) == ((True, False) if not why else (False, True))
    assert why in " ".join(said) and bool(said) == bool(why)


def test_a_slurmctld_keeps_what_it_needs(site: Site) -> None:
    """A plugin's file that did not exist before stays as long as slurmctld needs it."""
    found = parse_host_record([f"absent 1 {LUA}"])
    known = rollback_target.AccessNow(b"", None, frozenset())
    assert rollback_target.file_targets(site, "c1", found, False, known)[0] == found.files
    files, said, _ = rollback_target.file_targets(site, "c1", found, True, known)
    assert files == {} and "slurmctld there needs it" in said[0]


def test_a_fingerprint_is_of_what_lasts() -> None:
    """What the API server and controllers write does not change an object's fingerprint."""
    one = {
        "kind": "D",
        "metadata": {"name": "d", "uid": "1", "annotations": {"deployment.kubernetes.io/revision": "1"}},
    }
    other = {"kind": "D", "metadata": {"name": "d", "uid": "2", "annotations": {}}, "status": {"ready": 1}}
    assert kube_objects.fingerprint(one) == kube_objects.fingerprint(other)
    assert kube_objects.fingerprint(one) != kube_objects.fingerprint({**one, "spec": {"replicas": 0}})


@pytest.mark.parametrize("slurm", [True, False])
def test_a_slurm_side_that_stays_is_not_judged(slurm: bool) -> None:
    """Where only DWS is restored, problems of controllers and nodes do not matter."""
    goal = RollbackTarget("1", "install", {}, (), {"slurmctl": True}, slurm=slurm)
    first, *_ = procedure.stages(goal, "/etc/slurm/slurm.conf")
    judged = {step.name for step in first.steps}
    assert {"cluster", "registry", "workflows"} <= judged
    assert judged & {"controller", "slurm-conf"} == ({"controller", "slurm-conf"} if slurm else set())


def test_objects_are_the_masters(site: Site) -> None:
    """Other hosts' lines about the cluster's objects are ignored, and so can be neither wrong nor unreadable."""
    lines = ['object 1 {"path": "/x", "step": "deploy.applied", "before": null}', "object 1 what", f"absent 1 {LUA}"]
    assert own_lines(site, "m", lines) == lines
    assert own_lines(site, "c", lines) == [f"absent 1 {LUA}"]


def a_storage(name: str, **spec: str) -> dict[str, Any]:
    meta = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    return {"apiVersion": f"{names.GROUP}/v1alpha2", "kind": "Storage", "metadata": meta, "spec": spec}


class Storages:
    """The API of a DWS that has Storages of these names; of none at all where `names` is None."""

    def __init__(self, *there: str, served: bool = True) -> None:
        self.there, self.served = there, served

    def get(self, path: str, **query: str) -> dict[str, Any] | None:
        if path == f"/apis/{names.GROUP}/v1alpha2":
            return {"resources": [{"name": "storages", "kind": "Storage"}]} if self.served else None
        name = path.rpartition("/")[2]
        return a_storage(name) if self.served and name in self.there else None


@pytest.mark.parametrize(
    ("first", "there", "pending", "back"),
    [
        ("1", None, [], ["a"]),
        ("2", None, [], ["b", "c"]),
        ("2", ("b",), [], ["c"]),
        ("2", ("b", "c", "z"), [], []),
        ("2", None, ["b"], ["c"]),
        ("3", ("x",), [], []),
        ("4", ("x",), [], []),
        ("7", ("x",), [], []),
    ],
)
def test_the_state_before_the_run_is_passed_to_the_install(
    local_host: LocalHost,
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    first: str,
    there: tuple[str, ...] | None,
    pending: list[str],
    back: list[str],
) -> None:
    """The first removal since that run had saved it, whatever later ones saved, and whether DWS is installed again or not.
    Present objects, and those that an upgrade still has to restore, stay; once all exist, nothing is done.
    """
    state = local_host.folder.parent / "state"
    for run, items in {"1": ["a"], "2": ["b", "c"], "3": [], "4": None, "5": []}.items():
        (state / "before" / run).mkdir(parents=True)
        if items is not None:
            saved = dws_objects.text([a_storage(name, state="Disabled") for name in items])
            (state / "before" / run / ".kept.json").write_text(saved)
    if pending:
        (state / "put-back.json").write_text(dws_objects.text([a_storage(name, state="newer") for name in pending]))
    cluster = Storages(*(there or ()), served=there is not None)
    steps = objects.saved(first)
    facts = Facts({})
    place = StepContext(site, facts, "m")

    def look() -> None:
        for step in steps:
            made = step.look(place)
            shell = isinstance(made, ShellLook)
            found = made.parse(local_host.run(made.script, deadline=30).out) if shell else made.read(cluster)  # type: ignore[union-attr,arg-type]
            facts.found[f"replace.{step.name}"] = {"m": found}

    look()
    step = steps[-1]
    assert isinstance(step, Step) and step.read and step.change
    have = step.read(place, facts.one(Fact[Any]("replace", "saved")))
    assert have == [f"Storage default/{name}" for name in back]
    if not have:
        return
    script, data = compile_actions(step.change(place, have, []), "6", "==mark")
    answer = local_host.run(script, data, deadline=30)
    assert answer.code == 0, answer.err
    assert stat.S_IMODE((state / "put-back.json").stat().st_mode) == 0o600
    items = json.loads((state / "put-back.json").read_text())["items"]
    specs = {one["metadata"]["name"]: one["spec"]["state"] for one in items}
    assert specs == {**dict.fromkeys(pending, "newer"), **dict.fromkeys(back, "Disabled")}
    look()
    assert step.read(place, facts.one(Fact[Any]("replace", "saved"))) == []


def test_objects_are_brought_back_wherever_dws_comes_back() -> None:
    """After the removal of another version, and before the install that restores them."""
    goal = RollbackTarget("1", "install", {}, (), {"c": True})
    stages = {
        stage.name: [step.name for step in stage.steps] for stage in procedure.stages(goal, "/etc/slurm/slurm.conf")
    }
    assert stages["replace"][-4:] == ["removed", "former", "lacking", "saved"]
    assert "kept" in stages["deploy"]


def test_half_of_a_version_is_refused_with_the_way_on() -> None:
    """It names the run before which DWS was complete, and how to remove DWS."""
    half = {**THERE, "unfinished": "0.0.20"}
    runs = [replace(past(str(n)), installed=one) for n, one in enumerate((NONE, THERE, half, half))]
    told = half_removed_text(former_state.HalfRemoved("0.0.20"), runs[3], runs)
    assert (
        "`invoke rollback 1` goes back to a state with a complete DWS" in told and "DWS 0.0.20 was half removed" in told
    )
    assert "invoke undeploy" in told


def _left(host: LocalHost, path: str, text: str) -> None:
    file = host.folder / "state" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as open_file:
        open_file.write(text)


LEFT = {
    "another run": ("before/2/.opened", "{}\n"),
    "the last run goes on": ("before/1/.objects", "{}\n"),
    "it changes a file that it had changed": ("before/1/.record", "left abc /etc/slurm/slurm.conf\n"),
    "it keeps a file": ("before/1/etc/slurm/burst_buffer.lua", "text"),
    "it ends": ("runs/1", '{"event": "summary"}\n'),
}


@pytest.mark.parametrize("what", [*LEFT, "", "unread"])
@pytest.mark.parametrize("role", ["master", "controller", "compute"])
def test_a_goal_is_of_the_records_that_are_there(
    site: Site, local_host: LocalHost, monkeypatch: pytest.MonkeyPatch, role: str, what: str
) -> None:
    """A run that recorded anything on any host since the target was made is not half undone: the rollback refuses."""
    monkeypatch.setattr(unchanged, "STATE", str(local_host.folder / "state"))
    nothing = local_host.run(unchanged.records(), deadline=60.0).out
    (local_host.folder / "state").mkdir(exist_ok=True)  # as a host has it that a run has told of itself
    assert local_host.run(unchanged.records(), deadline=60.0).out == nothing != b""
    _left(local_host, "before/1/.opened", "{}\n")
    _left(local_host, "before/1/.record", "step plugin.lua\n")

    def seen() -> str:
        return local_host.run(unchanged.records(), deadline=60.0).out.decode().strip()

    goal = RollbackTarget("1", "leave", {}, (), {"c": True}, records={} if what == "unread" else {"h": seen()})
    first, *_ = procedure.stages(goal, "/etc/slurm/slurm.conf")
    (check,) = (one for one in first.steps if one.name == f"runs-{role}")
    assert isinstance(check, Check)
    if what in LEFT:
        _left(local_host, *LEFT[what])
    told = check.judge(StepContext(site, Facts({}), "h"), seen())
    assert [one.name for one in told] == (["run-since"] if what else [])


SERVED = snapshot.ObjectSnapshot(CRD, None, frozenset())
OFF = RollbackTarget("1", "leave", {}, (), {"c": False}, slurm=True, off=True)


@pytest.mark.parametrize(
    ("goal", "around"),
    [
        (OFF, ["slurm"]),
        (replace(OFF, dws="remove"), ["slurm"]),
        (replace(OFF, dws="install", version="0.0.20"), ["slurm"]),
        (
            replace(OFF, slurm=False, pods=(ObjectSnapshot("/apis/apps/v1/x", None, frozenset()),)),
            ["pods", "slurmctld"],
        ),
        (RollbackTarget("1", "leave", {}, (SERVED,), {"c": True}), ["objects"]),
    ],
)
def test_dws_is_closed_before_jobs_lose_what_they_need_and_opened_at_the_end(
    goal: RollbackTarget, around: list[str]
) -> None:
    """As in an undeploy: DWS is closed, checked, removed, reopened; a rollback that takes nothing from jobs does not close it."""
    files = {"c": {LUA: FileSnapshot(LUA, "r", "644", "root:root", ABSENT, frozenset())}}
    for made, more in ((goal, []), (replace(goal, files=files, roles={"controller": ("c",)}), ["plugin"] * goal.off)):
        stages = {stage.name: stage for stage in procedure.stages(made, "/etc/slurm/slurm.conf")}
        assert set(stages["close"].around) == {*around, *more} and [*stages][-1] == "open"
        assert stages["open"].ends == "close" and set(stages["open"].needs) == {*stages} - {"open"}
        first = {name for name in around if "close" in stages[name].needs}
        assert around[0] in first
        for name in (around[0], *more):
            checks = [one.name for one in stages[name].steps if isinstance(one, Check)]
            assert checks[:2] == ["workflows", "jobs"]
    unharmed = procedure.stages(RollbackTarget("1", "leave", {}, (), {"c": True}, slurm=True), "/etc/slurm/slurm.conf")
    assert "close" not in [stage.name for stage in unharmed]


@pytest.mark.parametrize(
    ("goal", "guarded"),
    [
        (RollbackTarget("1", "leave", {}, (), {"c": False}, slurm=True, off=True), ["preflight", "slurm"]),
        (RollbackTarget("1", "remove", {}, (), {"c": False}, slurm=True, off=True), ["preflight", "slurm", "undeploy"]),
        (RollbackTarget("1", "install", {}, (), {"c": True}, version="0.0.20"), ["preflight", "replace", "deploy"]),
        (RollbackTarget("1", "leave", {}, (SERVED,), {"c": True}), ["preflight", "objects"]),
        (RollbackTarget("1", "leave", {}, (), {"c": True}, slurm=True), ["preflight"]),
    ],
)
def test_jobs_and_workflows_are_looked_at_again_before_what_they_need_goes(
    goal: RollbackTarget, guarded: list[str]
) -> None:
    """Before slurm.conf loses the burst buffer, before DWS is removed, and before a kind or its server is removed."""
    stages = procedure.stages(goal, "/etc/slurm/slurm.conf")
    names_of = {stage.name: [one.name for one in stage.steps if isinstance(one, Check)] for stage in stages}
    # a rollback that takes nothing away has them as well, and they are not due
    assert [name for name, checks in names_of.items() if {"jobs", "workflows"} <= {*checks}] == guarded
    for stage in stages:
        checks = [number for number, one in enumerate(stage.steps) if one.name in ("jobs", "workflows")]
        taking = [number for number, one in enumerate(stage.steps) if isinstance(one, Step) and one.removes]
        assert stage.name == "preflight" or not checks or not taking or max(checks) < min(taking)


@pytest.mark.parametrize(
    ("goal", "refused"),
    [
        (RollbackTarget("1", "remove", {}, (), {}), True),
        (RollbackTarget("1", "install", {}, (), {}), True),
        (RollbackTarget("1", "leave", {}, (SERVED,), {}), True),
        (RollbackTarget("1", "leave", {}, (), {}, pods=(SERVED,)), True),
        (RollbackTarget("1", "leave", {}, (), {}), False),
    ],
)
def test_a_rollback_is_not_done_by_half_for_a_limit(site: Site, goal: RollbackTarget, refused: bool) -> None:
    """A rollback that changes the cluster cannot leave out the master: Slurm would be as before, and DWS as now."""
    first, *_ = procedure.stages(goal, "/etc/slurm/slurm.conf")
    there = Facts({installed.FACT.name: {"m": {**NONE, "namespace": True, "crds": {}}}})
    master = site.master.host.name
    controllers = frozenset(host.name for host in site.controllers)
    told = {
        limit: [
            one.name
            for check in first.steps
            if isinstance(check, Check) and check.name == "limit"
            for one in check.judge(StepContext(replace(site, limit=limit), there, master), None)
        ]
        for limit in (None, controllers, frozenset({master}))
    }
    assert told == {None: [], controllers: ["master-left-out"] * refused, frozenset({master}): []}


@pytest.mark.parametrize("dws", ["leave", "remove", "install"])
def test_a_goal_belongs_to_the_installed_dws(site: Site, dws: Dws) -> None:
    """The present DWS decided what to do about it: where another one was installed since, the rollback refuses."""
    now = {**THERE, "namespace": True, "crds": {}}
    first, *_ = procedure.stages(RollbackTarget("1", dws, {}, (), {"c": True}, now=now), "/etc/slurm/slurm.conf")
    checks = {one.name: one for one in first.steps}
    check = checks["since-dws"]
    assert isinstance(check, Check) and "installed" in checks
    for found, told in (
        (now, []),
        ({**now, "tag": "0.1.9"}, ["run-since"]),
        ({**now, "unfinished": "0.0.20"}, ["run-since"]),
    ):
        place = StepContext(site, Facts({installed.FACT.name: {"m": found}}), "m")
        assert [one.name for one in check.judge(place, None)] == told


# --- what somebody changes while a rollback is at work

CONF = "/etc/slurm/slurm.conf"


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("seen", ["A=1\n", "B=2\n"])
def test_a_slurmctld_that_would_not_start_is_told_before_its_restart(site: Site, seen: str) -> None:
    """Where slurm.conf is to be another; a rollback that leaves Slurm alone does not ask."""
    known = FileSnapshot(CONF, "1", "644", "root:root", _sum("A=1\n"), frozenset(), b"A=1\n", CONF)
    goal = RollbackTarget("1", "leave", {"c": {CONF: known}}, (), {"c": False}, slurm=True)
    (check,) = [item for item in procedure.stages(goal, CONF)[0].steps if item.name == "start"]
    assert isinstance(check, Check)
    daemon = {**slurmctld.parse(b""), "main": "7", "pings": [["here", "UP"]]}
    facts = Facts({"slurm.conf": {"c": {"id": "1", "text": seen}}, "slurm.daemon": {"c": daemon}})
    findings = check.judge(StepContext(site, facts, "c"), start.parse(b"unparsed=error: bad\n"))
    assert [finding.name for finding in findings] == ["slurm-conf-unparsable"] * (seen != "A=1\n")
    for dws in ("leave", "install"):
        alone = RollbackTarget("1", dws, {}, (), {"c": True}, version="0.0.20")
        assert "start" not in [item.name for item in procedure.stages(alone, CONF)[0].steps]


@pytest.mark.parametrize("text", ["enabled\n", "enabled\nby hand\n", None])
def test_a_slurm_conf_that_is_edited_after_the_preflight_stays(site: Site, text: str | None) -> None:
    """A change between the check of all files and this controller's turn is not overwritten."""
    known = FileSnapshot(
        CONF, "1", "644", "root:root", _sum("plain\n"), frozenset({_sum("enabled\n")}), b"plain\n", CONF
    )
    goal = RollbackTarget("1", "leave", {"c": {CONF: known}}, (), {"c": False}, slurm=True)
    (stage,) = (one for one in procedure.stages(goal, CONF) if one.name == "slurm")
    (step,) = (one for one in stage.steps if one.name == "conf")
    assert isinstance(step, Step) and step.change and step.read
    found = None if text is None else {"id": "1", "text": text}
    facts = Facts({"slurm.conf": {"c": found}, "preflight.controller": {"c": {"files": {}}}})
    place = StepContext(site, facts, "c")
    have = step.read(place, found)
    if text == "enabled\n":
        assert step.change(place, have, step.want(place))
        return
    with pytest.raises(Refused) as refused:
        step.change(place, have, step.want(place))
    assert [one.name for one in refused.value.findings] == ["file-changed"]


@pytest.mark.parametrize("used", [True, False])
def test_a_plugin_is_loaded_before_it_comes_back_where_slurmctld_uses_it(site: Site, used: bool) -> None:
    """A former plugin file that does not load, and that slurmctld did not use, is restored: a rollback must not fail for ever."""
    known = FileSnapshot(LUA, "1", "644", "root:root", _sum("old\n"), frozenset({_sum("new\n")}), b"old\n", LUA)
    goal = RollbackTarget("1", "leave", {"c": {LUA: known}}, (), {"c": used}, roles={"controller": ("c",)})
    (stage,) = files.files(goal, "plugin", "controller", set())
    (step,) = stage.steps
    assert isinstance(step, Step) and step.change and step.read
    found = {"mode": "644", "owner": "root:root", "sum": _sum("new\n"), "text": "new\n"}
    controller = {
        "linked": ["5.4"],
        "lua": [["5.4", "/usr/bin/lua5.4"]],
        "version": "24.11.5",
        "hooks": ["slurm_bb_pools"],
    }
    facts = Facts({f"plugin.{step.name}": {"c": found}, "preflight.controller": {"c": controller}})
    place = StepContext(site, facts, "c")
    actions = step.change(place, step.read(place, found), step.want(place))
    titles = [action.title for action in actions if isinstance(action, RunScript)]
    assert [title.partition(" ")[0] for title in titles] == (["load", "restore"] if used else ["restore"])


def a_role(*rules: str, version: str = "1", uid: str = "u", **status: str) -> dict[str, Any]:
    meta = {"name": "workload-manager", "uid": uid, "resourceVersion": version}
    return {"kind": "ClusterRole", "metadata": meta, "rules": list(rules), **({"status": status} if status else {})}


class Changing:
    """An API of one object, which has the next of `states` each time it is read; deletions obey their preconditions."""

    def __init__(self, *states: dict[str, Any] | None) -> None:
        self.states = list(states)
        self.now = self.states[-1]
        self.deleted: list[tuple[str, str]] = []

    def get(self, path: str, **query: str) -> dict[str, Any] | None:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def delete(self, path: str, deadline: float, uid: str = "", version: str = "") -> None:
        self.deleted.append((uid, version))
        assert self.now is not None
        there = self.now["metadata"]
        if (uid or there["uid"], version or there["resourceVersion"]) != (there["uid"], there["resourceVersion"]):
            raise ClusterError(409, "the precondition does not hold")


def objects_back(thing: ObjectSnapshot, cluster: Changing, site: Site) -> None:
    """Make the step's check and its API calls."""
    step = objects.step([thing], "objects", "1")
    look = step.look(StepContext(site, Facts({}), "m"))
    assert isinstance(look, ApiLook) and step.read and step.change
    found = look.read(cluster)  # type: ignore[arg-type]
    place = StepContext(site, Facts({"objects.objects": {"m": found}}), "m")
    actions = step.change(place, step.read(place, found), step.want(place))
    reach = Reach(lambda host: None, lambda: cluster, lambda role: "m")
    perform_in_cluster(
        reach,
        StepReporter("2", "m", "objects", "objects", lambda event: None),
        [a for a in actions if isinstance(a, Delete)],
    )


LEFT_SO = a_role("ours")
EDITED = a_role("ours", "by hand", version="2")


@pytest.mark.parametrize("then", [None, a_role("before")])
def test_an_object_that_is_edited_after_the_preflight_stays(site: Site, then: dict[str, Any] | None) -> None:
    """It is compared again with what the runs left, right before it is removed or restored."""
    cluster = Changing(EDITED)
    with pytest.raises(Refused) as refused:
        objects_back(ObjectSnapshot(ROLE, then, frozenset({kube_objects.fingerprint(LEFT_SO)})), cluster, site)
    assert [one.name for one in refused.value.findings] == ["object-changed"]
    assert cluster.deleted == []


@pytest.mark.parametrize("left", [frozenset({kube_objects.fingerprint(LEFT_SO)}), frozenset[str]()])
@pytest.mark.parametrize("now", [EDITED, a_role("of another", uid="v", version="3")])
def test_an_object_that_is_edited_right_before_its_deletion_stays(
    site: Site, left: frozenset[str], now: dict[str, Any]
) -> None:
    """It became another object between check and deletion: only the object that was checked is deleted."""
    for states in ((LEFT_SO, now), (LEFT_SO, LEFT_SO, now)):
        cluster = Changing(*states)
        with pytest.raises(Refused):
            objects_back(ObjectSnapshot(ROLE, None, left), cluster, site)
        assert cluster.deleted == [("u", "1")] * (len(states) - 2)


def test_a_changing_status_stops_no_deletion(site: Site) -> None:
    """What controllers write is no edit: the object is checked again, and deleted."""
    busy = a_role("ours", version="2", ready="no")
    cluster = Changing(LEFT_SO, LEFT_SO, busy)
    objects_back(ObjectSnapshot(ROLE, None, frozenset({kube_objects.fingerprint(LEFT_SO)})), cluster, site)
    assert cluster.deleted == [("u", "1"), ("u", "2")]


def test_an_answer_covers_what_the_undeploy_before_leaves_of_the_objects(site: Site) -> None:
    """The step's list is shorter then than it was in the question; one more object was not in it."""
    things = [ObjectSnapshot(path, None, frozenset()) for path in (ROLE, CRD)]
    step, place = objects.step(things, "objects", "1"), StepContext(site, Facts({}), "m")

    def removed(*present: ObjectSnapshot) -> frozenset[str]:
        have = {known.label: objects.THERE if known in present else ABSENT for known in things}
        return frozenset(thing for removal in step.removals(place, have, {}) for thing in removal.confirmed)

    assert removed(things[0]) < removed(*things) and not removed()
    assert not removed(*things) <= removed(things[0])
