"""The plugin in a pod logs in with its pod's ServiceAccount: when that is chosen, what is then wanted, and who has rights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from dws_on_csm.commands.history import rollback
from dws_on_csm.commands.history.host_record import HostRecord
from dws_on_csm.config.load import load
from dws_on_csm.config.site import Site
from dws_on_csm.config.yaml_file import SiteError
from dws_on_csm.domain import certificates, names, plugin_role
from dws_on_csm.model.actions import Action, Apply, CallApi, Delete, RunElsewhere, RunScript, title
from dws_on_csm.model.step import Check, Facts, NotYetKnown, Step, StepContext
from dws_on_csm.stages.access import kubeconfig, old_file, rbac, revocation_proof, revoke_account, rotate, signing
from dws_on_csm.stages.access.stage import STAGE as ACCESS
from dws_on_csm.stages.facts import Kubeconfig
from dws_on_csm.stages.pod import discover, mount, service_account
from dws_on_csm.stages.slurm import pod_checks
from tests.unit.authority import MAY, at, authority, found
from tests.unit.site_files import write

CONTROLLERS = """master: {host: m}
controllers:
  - pod: {selector: app=slurmctld}
  - pod: {name: backup, selector: app=slurmctld-backup}
"""


def site(tmp_path: Path, via: str = "serviceaccount", controllers: str = CONTROLLERS, **more: str) -> Site:
    """A site with two slurmctlds in pods."""
    keys = {"via": via, **more}
    return load(write(tmp_path, f"{controllers}access: {yaml.safe_dump(keys, default_flow_style=True)}"))


def pod(account: str = "user/slurmctld", **more: Any) -> discover.PodState:
    """A pod whose /etc/slurm is one ConfigMap, with a token."""
    state: dict[str, Any] = {
        "pod": "slurmctld-1",
        "workload": {"kind": "Deployment", "name": "slurmctld", "path": "/d", "manager": "", "strategy": "Recreate"},
        "volume": {"name": "conf", "configMap": {"name": "slurm-conf"}},
        "subpaths": [],
        "config_map": {"name": "slurm-conf", "path": "/c", "manager": "", "immutable": False, "generated": None},
        "secret": {"name": "slurmctld-slurm-dws", "key": "kubeconfig", "mounted": False},
        "group": "",
        "mounts": [["/var/spool", discover.SAME]],
        "account": account,
        "token": True,
    }
    return {**state, **more}  # type: ignore[typeddict-item]


def named(**more: Any) -> Kubeconfig:
    """What a look finds of a kubeconfig that names the token."""
    file: dict[str, Any] = {
        "slurm_user": "slurm",
        "slurm_uid": "64030",
        "slurm_group": "64030",
        "mode": "644",
        "owner": "root",
        "owner_uid": "0",
        "certificate-authority": names.ACCOUNT_CA,
        "current-context": "slurm-dws",
        "server": "https://api",
        "namespace": "default",
        "tokenFile": names.ACCOUNT_TOKEN,
        "token": "readable",
        "may": MAY,
    }
    return {**file, **more}  # type: ignore[typeddict-item]


def none(**more: Any) -> Kubeconfig:
    """What a look finds where there is no kubeconfig, in a pod with a token."""
    return {"slurm_user": "slurm", "slurm_uid": "64030", "slurm_group": "64030", "token": "readable", "may": [], **more}  # type: ignore[typeddict-item]


def seen(
    here: Site,
    files: dict[str, Any],
    host: str = "slurmctld",
    pods: dict[str, discover.PodState] | None = None,
    **more: dict[str, Any],
) -> StepContext:
    """A place of a run that has seen these kubeconfigs and pods."""
    place = at(here, {}, host, **more)
    place.facts.found["access.kubeconfig"] = files
    place.facts.found[discover.FACT.name] = pods or {"slurmctld": pod(), "backup": pod("user/backup")}
    return place


GENERATED = {"templates": "services/slurm-config-templates", "job": "services/slurm-config"}


def with_map(**more: Any) -> discover.PodState:
    config_map: Any = pod()["config_map"]
    return pod(config_map={**config_map, **more})


# --- which way


@pytest.mark.parametrize(
    ("state", "token", "by_account", "why"),
    [
        (pod(), "readable", False, "nobody else manages the pod"),
        (with_map(generated=GENERATED), "readable", True, "Job services/slurm-config renders"),
        (with_map(manager="Helm"), "readable", True, "slurm-conf is managed by Helm"),
        (with_map(generated=GENERATED), "unreadable", False, "SlurmUser cannot read the pod's token"),
        ({**with_map(generated=GENERATED), "token": False}, "", False, "no token"),
        (
            {**with_map(generated=GENERATED), "secret": {"name": "s", "key": "k", "mounted": True}},
            "readable",
            False,
            "mounts Secret s already",
        ),
    ],
    ids=["plain", "generated", "managed", "unreadable", "no-token", "mounted"],
)
def test_auto_takes_the_token_where_the_template_is_not_ours_to_edit(
    tmp_path: Path, state: discover.PodState, token: str, by_account: bool, why: str
) -> None:
    """A site whose pods nobody manages, or mount the Secret already, stays as it is; the run says which way, and why."""
    place = seen(site(tmp_path, "auto"), {"slurmctld": none(token=token)}, pods={"slurmctld": state})
    way = service_account.way(place)
    assert (way.by_account, why in way.why) == (by_account, True), way
    told = service_account.note(place)
    assert why in told if state != pod() else told == ""


@pytest.mark.parametrize("via", ["ca", "csr"])
def test_a_certificate_that_the_site_asks_for_is_never_a_token(tmp_path: Path, via: str) -> None:
    """Whatever manages the pod; and nothing of the pod has to be known for it."""
    place = at(site(tmp_path, via), {}, "slurmctld")
    assert not service_account.chosen(place) and service_account.note(place) == ""


def test_a_host_has_no_service_account(tmp_path: Path) -> None:
    """A site file that asks for one is refused, with the key; auto means a certificate there."""
    with pytest.raises(SiteError, match=r"(?s)access\.via.*c1 is a host"):
        site(tmp_path, controllers="master: {host: m}\ncontrollers: [{host: c1}]\n")
    place = at(site(tmp_path, "auto", controllers="master: {host: m}\ncontrollers: [{host: c1}]\n"), {}, "c1")
    assert not service_account.chosen(place)


def test_the_way_is_unknown_before_the_pod_was_seen(tmp_path: Path) -> None:
    """Nothing is decided by a guess: neither the way of a pod, nor the subjects of the binding."""
    place = at(site(tmp_path, "auto"), {}, "slurmctld")
    with pytest.raises(NotYetKnown):
        service_account.chosen(place)
    with pytest.raises(NotYetKnown):
        rbac.own(place)


# --- findings


def names_of(place: StepContext, state: discover.PodState) -> list[str]:
    return [finding.name for finding in pod_checks.judge(place, state) if not finding.name.startswith("pod-")]


LISTED = [
    {"configMap": {"name": "slurm-conf", "items": [{"key": "slurm.conf", "path": "slurm.conf"}]}},
    {"secret": {"name": "s", "items": [{"key": "k", "path": discover.FILE}]}},
]
"""A volume that lists its files: a key that is added to the ConfigMap does not reach the pod."""


@pytest.mark.parametrize(
    ("state", "token", "expected"),
    [
        (pod(), "readable", []),
        (pod("user/default"), "readable", ["account-shared"]),
        (pod(token=False), "", ["account-token-missing"]),
        (pod(), "unreadable", ["account-token-unreadable"]),
        (
            pod(secret={"name": "s", "key": "k", "mounted": True, "required": True}),
            "readable",
            ["account-hidden"],
        ),
        (pod(secret={"name": "s", "key": "k", "mounted": True, "required": False}), "readable", []),
        (
            pod(
                secret={"name": "s", "key": "k", "mounted": True, "required": False},
                volume={"name": "conf", "projected": {"sources": LISTED}},
            ),
            "readable",
            ["account-hidden"],
        ),
    ],
    ids=["fine", "default", "no-token", "unreadable", "hidden", "ours", "listed"],
)
def test_what_keeps_the_plugin_from_the_token_is_told_with_its_fix(
    tmp_path: Path, state: discover.PodState, token: str, expected: list[str]
) -> None:
    """And that a namespace's default account would give its rights to all pods that name no other."""
    place = seen(site(tmp_path), {"slurmctld": none(token=token)}, pods={"slurmctld": state})
    assert names_of(place, state) == expected
    assert names_of(seen(site(tmp_path, "ca"), {"slurmctld": none()}, pods={"slurmctld": state}), state) == []


# --- the kubeconfig


def test_the_kubeconfig_names_files_and_holds_no_secret() -> None:
    """Server, CA, namespace and token are where the pod has them; nothing has to be renewed."""
    text = certificates.token_kubeconfig("k", "https://s", names.ACCOUNT_CA, "slurm-dws", "jobs", names.ACCOUNT_TOKEN)
    file = yaml.safe_load(text)
    assert file["clusters"][0]["cluster"] == {"certificate-authority": names.ACCOUNT_CA, "server": "https://s"}
    assert file["contexts"][0]["context"] == {"cluster": "k", "namespace": "jobs", "user": "slurm-dws"}
    assert file["users"] == [{"name": "slurm-dws", "user": {"tokenFile": names.ACCOUNT_TOKEN}}]


@pytest.mark.parametrize(
    ("file", "keys", "server"),
    [
        (none(service="yes"), {}, names.API_SERVICE),
        (none(), {}, "https://api"),
        (named(server=names.API_SERVICE), {}, names.API_SERVICE),
        (named(server="https://api", service="yes"), {}, "https://api"),
        (named(server="https://other", service="yes"), {}, names.API_SERVICE),
        (none(service="yes"), {"server": "https://vip:6443"}, "https://vip:6443"),
    ],
    ids=["service", "no-dns", "dns-was-silent", "works", "wrong", "configured"],
)
def test_the_api_server_is_the_clusters_own_name_where_the_pod_knows_it(
    tmp_path: Path, file: Kubeconfig, keys: dict[str, str], server: str
) -> None:
    """Else the admin's. A name server that is silent for a moment changes no kubeconfig that works."""
    assert kubeconfig.server(seen(site(tmp_path, **keys), {"slurmctld": file})) == server


def test_what_is_as_wanted_stays(tmp_path: Path) -> None:
    """Also where somebody gave the account rights of its own."""
    for may in (MAY, [*MAY, "secrets [] [] [get]"]):
        place = seen(site(tmp_path), {"slurmctld": named(may=may)})
        assert kubeconfig.read(place, named(may=may)) == kubeconfig.wanted(place)
        assert kubeconfig.reaches(place)
    lacking = named(may=["pods [] [] [get]"])
    place = seen(site(tmp_path), {"slurmctld": lacking})
    assert "may not create" in kubeconfig.read(place, lacking)["SlurmUser"] and not kubeconfig.reaches(place)


def actions(place: StepContext, file: Kubeconfig) -> list[Action]:
    return list(kubeconfig.change(place, kubeconfig.read(place, file), kubeconfig.wanted(place)))


def test_no_key_is_made_and_nothing_signed(tmp_path: Path) -> None:
    """The file is a key of the ConfigMap; no Secret, no CA, no request."""
    place = seen(site(tmp_path), {"slurmctld": none()})
    every = actions(place, none())
    first = next(title(action) for action in every if isinstance(action, CallApi))
    assert first == "write slurm-dws.kubeconfig in ConfigMap slurm-conf"
    assert not [action for action in every if isinstance(action, RunElsewhere | Delete)]
    assert not any(isinstance(action, RunScript) and action.data for action in every)


def test_a_working_certificate_is_replaced_by_what_was_tried(tmp_path: Path) -> None:
    """First SlurmUser tries the new file, then the ConfigMap has it, then the Secret that hides it goes."""
    old = found(authority().sign("slurm-dws", 100))
    place = seen(site(tmp_path), {"slurmctld": {**old, "token": "readable"}})
    every = actions(place, place.facts.found["access.kubeconfig"]["slurmctld"])
    first = every[0]
    assert isinstance(first, RunScript) and names.ACCOUNT_TOKEN.encode() in first.data
    order = [title(action) for action in every]
    written, deleted = order.index("write slurm-dws.kubeconfig in ConfigMap slurm-conf"), len(order) - 2
    assert written < deleted and isinstance(every[deleted], Delete)


@pytest.mark.parametrize(
    ("via", "places", "left"),
    [
        ("serviceaccount", {"secret": True, "mounted": True, "key": True}, ["Secret ", "the mount of Secret "]),
        ("serviceaccount", {"secret": False, "mounted": False, "key": True}, []),
        ("ca", {"secret": True, "mounted": True, "key": True}, ["slurm-dws.kubeconfig in ConfigMap "]),
        ("ca", {"secret": True, "mounted": True, "key": False}, []),
    ],
    ids=["token", "token-done", "certificate", "certificate-done"],
)
def test_nothing_is_left_of_the_other_way(tmp_path: Path, via: str, places: dict[str, bool], left: list[str]) -> None:
    """Each thing is a removal of its own, so that a part of them was confirmed too; a mount is removed by a rollout."""
    both = {
        "name": "conf",
        "projected": {"sources": [{"configMap": {"name": "slurm-conf"}}, {"secret": {"name": "x"}}]},
    }
    place = seen(site(tmp_path, via), {"slurmctld": none()})
    place.facts.found[old_file.FACT.name] = {"slurmctld": {**places, "volume": both}}
    step = old_file.STEP
    want: dict[str, list[str]] = {"left": []}
    have = step.have(place, place.facts.found[old_file.FACT.name]["slurmctld"])
    assert [
        thing.partition("slurm")[0] if "Secret" in thing else thing.partition("slurm-conf")[0] for thing in have["left"]
    ] == left
    assert len(step.removals(place, have, want)) == len(left)
    assert step.restarts and bool(step.restarts(place, have, want)) == (via == "serviceaccount" and places["mounted"])
    if left:
        assert step.change and step.change(place, have, want)


@pytest.mark.parametrize("listed", [False, True], ids=["whole", "listed"])
def test_the_pods_template_is_not_edited_for_it(tmp_path: Path, listed: bool) -> None:
    """But where the volume lists the ConfigMap's files: then each has to be listed."""
    items = [{"key": "slurm.conf", "path": "slurm.conf"}] if listed else None
    volume = {"name": "conf", "configMap": {"name": "slurm-conf", **({"items": items} if items else {})}}
    place = seen(site(tmp_path), {"slurmctld": none()}, pods={"slurmctld": pod(volume=volume)})
    wanted = mount.wanted_volume(place)
    assert (wanted == volume) != listed
    if listed:
        *_, added = wanted["projected"]["sources"]
        assert [item["key"] for item in added["configMap"]["items"]] == [*discover.PLUGIN, discover.FILE]


# --- who has rights


def test_each_pods_account_is_bound_by_name_and_no_user(tmp_path: Path) -> None:
    """A primary and a backup may have different accounts. Names of others stay."""
    bound = {"role": "workload-manager", "subjects": ["User other"]}
    place = seen(site(tmp_path), {"slurmctld": none(), "backup": none()}, "m", access__binding=bound)
    assert rbac.BINDING_STEP.want(place)["subjects"] == [
        "ServiceAccount user/backup",
        "ServiceAccount user/slurmctld",
        "User other",
    ]


@pytest.mark.parametrize("via", ["serviceaccount", "ca"])
def test_a_switch_keeps_both_until_the_new_way_is_there(tmp_path: Path, via: str) -> None:
    """The former subject goes with old-subjects, and then nothing of it is left; also when that run was cut off in between."""
    user, accounts = "User slurm-dws", ["ServiceAccount user/backup", "ServiceAccount user/slurmctld"]
    new, old = (accounts, [user]) if via == "serviceaccount" else ([user], accounts)
    by_token, by_certificate = named(), {**found(authority().sign("slurm-dws", 100)), "token": "readable"}
    before, after = (by_certificate, by_token) if via == "serviceaccount" else (by_token, by_certificate)
    bound = {"role": "workload-manager", "subjects": old}
    place = seen(site(tmp_path, via), dict.fromkeys(("slurmctld", "backup"), before), "m", access__binding=bound)
    both = rbac.BINDING_STEP.want(place)["subjects"]
    assert both == sorted([*new, *old])
    later = {"role": "workload-manager", "subjects": both}
    place = seen(
        site(tmp_path, via),
        dict.fromkeys(("slurmctld", "backup"), after),
        "m",
        access__binding=later,
        **{"access__old-subjects": later},
    )
    step = rbac.OLD_SUBJECTS_STEP
    have, want = step.have(place, later), step.want(place)
    assert (have, want) == (sorted(old), [])
    assert step.change
    (apply,) = step.change(place, have, want)
    assert (
        isinstance(apply, Apply)
        and [plugin_role.subject_name(subject) for subject in apply.manifest["subjects"]] == new
    )


def test_the_command_that_removes_a_stranger_keeps_the_account(tmp_path: Path) -> None:
    """As kubectl takes it: NAMESPACE:NAME."""
    bound = {"role": "workload-manager", "subjects": ["ServiceAccount user/slurmctld", "User other"]}
    place = seen(site(tmp_path), {"slurmctld": named(), "backup": named()}, "m", access__binding=bound)
    command = rbac.removal_command(place, bound)  # type: ignore[arg-type]
    assert "--serviceaccount=user:slurmctld" in command and "other" not in command


# --- signing, rotation, revocation


def test_a_ca_that_nobody_needs_is_not_judged(tmp_path: Path) -> None:
    """Neither a missing key nor the CA's end matters where no certificate is made; for a certificate both do."""
    why: signing.Signing = {"ends": 0, "why": "no key"}
    assert signing.CHECK.judge(seen(site(tmp_path), {}, "m"), why) == ()
    assert signing.CHECK.judge(seen(site(tmp_path, "ca"), {}, "m"), why)


def test_there_is_nothing_to_rotate(tmp_path: Path) -> None:
    """The step is right as it is, and says why."""
    here = site(tmp_path)
    place = seen(here, {"slurmctld": named()})
    access = next(stage for stage in rotate.stages(here) if stage.name == "access")
    step = next(item for item in access.steps if item.name == "kubeconfig")
    assert isinstance(step, Step) and step.status_text
    have = step.have(place, named())
    assert have == step.want(place)
    assert "nothing to rotate" in step.status_text(have) and "user/slurmctld" in step.status_text(have)


def test_a_revocation_takes_the_accounts_from_the_binding_alone(tmp_path: Path) -> None:
    """Names of others stay; it is confirmed by name; then the API server and the pod's own token prove it."""
    access = next(stage for stage in revoke_account.stages() if stage.name == "access")
    step = next(item for item in access.steps if item.name == "unbound")
    assert isinstance(step, Step) and step.change
    subjects = ["ServiceAccount other/default", "ServiceAccount user/backup", "ServiceAccount user/slurmctld", "User x"]
    bound = {"role": "workload-manager", "subjects": subjects}
    place = seen(site(tmp_path), {"slurmctld": named(), "backup": named()}, "m", access__unbound=bound)
    have = step.have(place, bound)
    assert have == ["ServiceAccount user/backup", "ServiceAccount user/slurmctld"]
    (removal,) = step.removals(place, have, step.want(place))
    assert "user/slurmctld" in removal.words and "#DW jobs are refused" in removal.words
    (apply,) = step.change(place, have, [])
    assert isinstance(apply, Apply)
    assert [plugin_role.subject_name(subject) for subject in apply.manifest["subjects"]] == [
        "ServiceAccount other/default",
        "User x",
    ]
    assert revocation_proof.groups_of("system:serviceaccount:user:slurmctld")[-1] == "system:serviceaccounts:user"


def test_a_revocation_of_some_controllers_is_refused(tmp_path: Path) -> None:
    """They may share an account."""
    first = next(stage for stage in revoke_account.stages() if stage.name == "preflight")
    check = next(item for item in first.steps if item.name == "names")
    assert isinstance(check, Check)
    limited = replace(site(tmp_path), limit=frozenset({"m", "slurmctld"}))
    assert [finding.name for finding in check.judge(seen(limited, {}, "m"), None)] == ["controllers-left-out"]
    assert check.judge(seen(site(tmp_path), {}, "m"), None) == ()


def test_the_stage_has_the_step_after_the_kubeconfig() -> None:
    """What is left of the other way is removed when the wanted one is proven, before the former subjects go."""
    order = [item.name for item in ACCESS.steps]
    assert order.index("kubeconfig") < order.index("old-file") < order.index("old-subjects")


def test_a_key_that_is_kept_nowhere_is_not_rolled_back_to(tmp_path: Path) -> None:
    """The Secret's content was withheld: where the ServiceAccount is bound now, the former way can't come back by a rollback."""
    secret = "/api/v1/namespaces/user/secrets/slurmctld-slurm-dws"
    record = HostRecord(objects={secret: {"before": {"withheld": True}}})
    bound = {"subjects": [{"kind": "ServiceAccount", "namespace": "user", "name": "slurmctld"}]}
    assert rollback.keys_lost(site(tmp_path), record, bound) == ["slurmctld", "backup"]
    assert rollback.keys_lost(site(tmp_path), record, {"subjects": [{"kind": "User", "name": "slurm-dws"}]}) == []
    assert rollback.keys_lost(site(tmp_path), HostRecord(objects={secret: {"before": None}}), bound) == []


GENERATED_HERE = {**GENERATED, "result": "user/slurm-conf", "slurm_conf": "x"}


@pytest.mark.parametrize("via", ["serviceaccount", "ca"])
def test_the_templates_of_a_generated_slurm_conf_have_the_kubeconfig(tmp_path: Path, via: str) -> None:
    """Where it names the token; with a certificate it is a Secret's, and no key of the templates is left."""
    state = with_map(generated=GENERATED_HERE)
    place = seen(site(tmp_path, via), {"slurmctld": none()}, pods={"slurmctld": state})
    step = kubeconfig.TEMPLATES_STEP
    text = kubeconfig.token_text(seen(site(tmp_path), {"slurmctld": none()}))
    right, wrong = ({discover.FILE: text}, {}) if via == "serviceaccount" else ({}, {discover.FILE: text})
    for keys, fits in ((right, True), (wrong, False)):
        place.facts.found["access.templates"] = {"slurmctld": {"templates": keys, "result": keys}}
        have = step.have(place, place.facts.found["access.templates"]["slurmctld"])
        assert (have == step.want(place)) == fits


def test_facts_of_no_pod_are_no_account() -> None:
    """A pod that was not found has no ServiceAccount that could be bound."""
    place = StepContext(None, Facts({discover.FACT.name: {"c": {"pod": ""}}}), "c")  # type: ignore[arg-type]
    with pytest.raises(NotYetKnown):
        service_account.account(place)


# --- the account of all pods that name none


class Namespace:
    """An API server with these pods: name -> ServiceAccount ("": the pod names none)."""

    def __init__(self, accounts: dict[str, str]) -> None:
        self.accounts = accounts

    def get(self, path: str, **query: str) -> Any:
        names_slurmctld = query.get("labelSelector")
        pods = [name for name in self.accounts if not names_slurmctld or name == "slurmctld-1"]
        return {"items": [self._pod(name) for name in pods]} if path.endswith("/pods") else None

    def _pod(self, name: str) -> dict[str, Any]:
        spec = {"containers": [{"name": "slurmctld"}], "serviceAccountName": self.accounts[name]}
        return {"metadata": {"name": name}, "spec": spec, "status": {"phase": "Running"}}


@pytest.mark.parametrize(
    ("own", "sharing"), [("", ["slurmctld-2", "uai-joe"]), ("default", ["slurmctld-2", "uai-joe"]), ("slurmctld", None)]
)
def test_the_pods_that_share_the_account_are_looked_for(tmp_path: Path, own: str, sharing: list[str] | None) -> None:
    """Only where it is the one that every pod has."""
    cluster = Namespace({"slurmctld-1": own, "slurmctld-2": "default", "uai-joe": "", "other": "own"})
    seen_pod = discover.look(at(site(tmp_path), {}, "slurmctld")).read(cluster)  # type: ignore[arg-type]
    assert seen_pod.get("sharing") == sharing


@pytest.mark.parametrize(
    ("manager", "patch"),
    [("Helm release cray-slurmctld", True), ("HelmChart slurm", False), ("SlurmCluster lab", False), ("", False)],
)
def test_each_way_out_of_a_shared_account_is_a_line_to_paste(tmp_path: Path, manager: str, patch: bool) -> None:
    """The account, the line of the site file; a patch only where Helm would keep it. This site's own pods are not named."""
    workload = {**(pod()["workload"] or {}), "manager": manager}
    state = pod("user/default", workload=workload, sharing=["slurmctld-2", "uai-joe"])
    both = {"slurmctld": state, "backup": pod("user/default", pod="slurmctld-2")}
    place = seen(site(tmp_path, "serviceaccount"), {"slurmctld": none(token="readable")}, pods=both)
    (told,) = [finding for finding in pod_checks.judge(place, state) if finding.name == "account-shared"]
    assert "now also uai-joe)" in told.text
    assert "`kubectl --namespace user create serviceaccount slurmctld` on the master" in told.fix
    assert "`accept: [account-shared]` in" in told.fix and "`access: {via: ca}`" in told.fix
    assert ("patch deployment slurmctld --patch" in told.fix) == patch
