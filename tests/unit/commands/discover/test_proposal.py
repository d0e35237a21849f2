"""What is proposed for each key, why, and when the administrator is asked instead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.commands.discover import page, proposal
from dws_on_csm.commands.discover.cluster import PodSlurm
from dws_on_csm.commands.discover.hosts import SlurmHost
from dws_on_csm.commands.discover.login import Login
from dws_on_csm.commands.discover.page import Value
from dws_on_csm.commands.discover.proposal import Node
from dws_on_csm.commands.discover.slurm import Configuration, Users
from dws_on_csm.config.load import load
from dws_on_csm.stages.slurm.slurmctld_hosts import Entry
from tests.unit import external_site
from tests.unit.commands.discover.samples import CONF, POD, POD_CONF, STATE, external, master, on_hosts, seen, view

HERE = Path("/nowhere/site.yaml")
ROOT = Login("", "root")
PRIMARY = SlurmHost("slurmctl1", "in /etc/hosts of m", ROOT, "", STATE)
SILENT = SlurmHost("slurmctl2", "SlurmctldHost in slurm.conf of slurmctl1", None, "timed out")


def by_key(**values: Any) -> dict[str, Value]:
    """Key -> what is proposed on this site; of several comments at one key the last."""
    proposed = proposal.values(seen(**values))
    load(HERE, text=page.text(["head"], proposed))  # whatever was seen, the file is a site file
    return {value.key: value for value in proposed}


def questions(**values: Any) -> dict[str, str]:
    """Key -> the question there."""
    by_key(**values)
    return {value.key: value.question for value in proposal.values(seen(**values)) if value.question}


def test_a_usual_site_leaves_no_question() -> None:
    """Slurm in a pod of CSM: everything could be known."""
    assert questions() == {}
    written = {key: value.value for key, value in by_key().items() if value.value is not None}
    assert written == {
        "master.host": "ncn-m001",
        "controllers[0].pod.name": "slurmctld",
        "controllers[0].pod.namespace": "user",
        "controllers[0].pod.selector": "app=slurmctld",
        "controllers[0].pod.container": "slurmctld",
        "ssh.user": "root",
        "versions.dws": "0.0.20",
        "versions.plugin": "0.0.5",
        "registry.name": "registry.local",
        "registry.secret": "nexus/nexus-admin-credential",
        "test_job.user": "joe",
    }


def test_each_value_has_its_source() -> None:
    """No value is written without a word on where it came from; a pod's keys have theirs above."""
    for value in proposal.values(
        seen(slurm=on_hosts(PRIMARY, SILENT), conf=CONF, node=Node("nid000001", "", "ext2/ext3"))
    ):
        assert value.source or value.question, value.key


INSTALLED = external_site.INSTALLED | {"tag": "0.1.12"}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        pytest.param({"dws": INSTALLED, "external": external()}, "", id="ours"),
        pytest.param({"dws": INSTALLED, "external": external("Argo CD application dws")}, "Argo CD", id="argo-cd"),
        pytest.param({"external": external(namespace="rabbit")}, "in the namespace rabbit", id="elsewhere"),
        pytest.param(
            {"dws": INSTALLED | {"applied": False, "writers": ["dws-operator"]}, "external": external()},
            "made by dws-operator",
            id="another-program",
        ),
        pytest.param({"dws": INSTALLED, "external": external(), "rabbit": True}, "", id="ours-with-rabbits"),
        pytest.param(
            {"dws": INSTALLED, "external": external(image="ghcr.io/x/dws:0.1.12"), "rabbit": True},
            "Near-node-flash",
            id="near-node-flash",
        ),
    ],
)
def test_a_dws_that_somebody_else_deploys_is_external(values: dict[str, Any], words: str) -> None:
    """The file says so, with the reason, and has no key that only a deployment needs: nothing is asked about these either."""
    sees = {"cluster": view(secrets=(), **values)}
    found = by_key(**sees)
    assert ("dws" in found) == bool(words)
    assert ("versions.dws" in found) != bool(words) and ("registry.name" in found) != bool(words)
    if words:
        assert words in found["dws"].source and "serves Workflows of v1alpha2" in found["dws"].source
        assert load(HERE, text=page.text(["head"], proposal.values(seen(**sees)))).external
        assert questions(**sees) == {}


TWO_BOUND = ("slurm-dws", "slurm-dws-b")


@pytest.mark.parametrize(
    ("values", "key", "value"),
    [
        pytest.param({"cluster": view(dws=INSTALLED, proxy="v0.16.0")}, "versions.dws", "0.1.12", id="installed-dws"),
        pytest.param(
            {"cluster": view(dws=INSTALLED, proxy="v1")}, "versions.kube_rbac_proxy", "v1", id="installed-proxy"
        ),
        pytest.param({"version": "22.05.8"}, "versions.plugin", "0.0.4", id="old-slurm"),
        pytest.param({"cluster": view(bound=("slurm-b",))}, "access.common_name", "slurm-b", id="bound-name"),
        pytest.param({"others": ("lab",)}, "access.common_name", "slurm-dws-user", id="several-slurms"),
        pytest.param({"others": ("lab",)}, "access.namespace", "user", id="several-slurms-namespace"),
        pytest.param({"view": master(pki=False)}, "access.via", "csr", id="no-ca-key"),
        pytest.param(
            {"view": master(kubeconfig="/root/.kube/config")},
            "master.kubeconfig",
            "/root/.kube/config",
            id="kubeconfig",
        ),
        pytest.param(
            {"view": master(source="000", proxy="http://proxy:3128")},
            "master.proxies.https",
            "http://proxy:3128",
            id="proxy",
        ),
        pytest.param({"login": Login("", "alice", sudo=True)}, "ssh.sudo", True, id="sudo"),
        pytest.param({"users": Users(("alice",), ("alice", "joe"))}, "test_job.user", "alice", id="own-name"),
        pytest.param(
            {"conf": Configuration("x", POD_CONF.entries, "n1", True, ("only",), ())},
            "test_job.partition",
            "only",
            id="one-partition",
        ),
    ],
)
def test_values(values: dict[str, Any], key: str, value: object) -> None:
    """What was seen decides."""
    proposed = by_key(**values)[key]
    assert (proposed.value, bool(proposed.source), proposed.question) == (value, True, "")


@pytest.mark.parametrize(
    ("values", "key", "words"),
    [
        pytest.param({"cluster": view(dws={**INSTALLED, "tag": "main"})}, "versions.dws", "'main'", id="no-release"),
        pytest.param(
            {"cluster": view(state={"kubernetes": "v1.24.17", "cert_manager": [], "workers": ["a", "b", "c"]})},
            "versions",
            "cert-manager is not installed",
            id="no-cert-manager",
        ),
        pytest.param(
            {"view": master(registry="000")}, "registry.name", "does not reach https://registry.local", id="registry"
        ),
        pytest.param(
            {"cluster": view(secrets=("a/harbor-push",))}, "registry.secret", "Perhaps a/harbor-push", id="secret"
        ),
        pytest.param({"view": master(source="000")}, "sources.dws", "--bundle FILE", id="no-source"),
        pytest.param(
            {"view": master(server="https://127.0.0.1:6443")}, "access.server", "others do not reach", id="server"
        ),
        pytest.param({"users": Users((), ("a", "b"), ("b",))}, "test_job.user", "knows b, a", id="several-users"),
        pytest.param({"users": Users()}, "test_job.user", "which ordinary user", id="no-users"),
        pytest.param(
            {"slurm": None, "conf": None, "silent": (SILENT,)}, "controllers[0]", "slurmctl2 (Slurm", id="no-slurm"
        ),
        pytest.param(
            {"slurm": PodSlurm("user", (POD, replace(POD, name="other")))},
            "controllers",
            "names 1 controllers (ncn-w001), and 2",
            id="unmatched",
        ),
        pytest.param(
            {"slurm": on_hosts(PRIMARY, SILENT), "conf": CONF, "node": Node("nid000001", "", "xfs")},
            "controllers[1].host",
            "slurmctl2 could not be looked at: timed out",
            id="unreachable-controller",
        ),
        pytest.param(
            {"slurm": on_hosts(PRIMARY), "conf": CONF, "node": Node("nid000001", "no route")},
            "computes[0].hosts",
            "no route",
            id="unreachable-node",
        ),
        pytest.param(
            {"conf": Configuration("x", POD_CONF.entries, "n1", True, ("a", "b"), ())},
            "test_job.partition",
            "a, b",
            id="partitions",
        ),
    ],
)
def test_questions(values: dict[str, Any], key: str, words: str) -> None:
    """What could not be known is asked, at its key, with what is known of it."""
    asked = questions(**values)
    assert list(asked) == [key]
    assert words in asked[key]


def test_names_that_have_rights_already() -> None:
    """Which of several Slurms has which name cannot be seen: they are named beside the new one."""
    proposed = by_key(others=("lab",), cluster=view(bound=TWO_BOUND))
    assert "slurm-dws, slurm-dws-b" in [
        value.source.partition(": ")[2].partition(".")[0]
        for value in proposal.values(seen(others=("lab",), cluster=view(bound=TWO_BOUND)))
        if value.key == "access"
    ]
    assert proposed["access.common_name"].value == "slurm-dws-user"


def test_a_controller_that_cannot_be_reached_stays_in_the_file() -> None:
    """Left out, it would have no burst buffer when it takes over."""
    proposed = by_key(slurm=on_hosts(PRIMARY, SILENT), conf=CONF, node=Node("nid000001", "", "xfs"))
    assert [proposed[f"controllers[{number}].host"].value for number in (0, 1)] == ["slurmctl1", "slurmctl2"]


def test_what_only_a_controller_knows() -> None:
    """Its unit, its folder, and a login that differs from the master's."""
    odd = SlurmHost("slurmctl1", "x", Login("", "admin", sudo=True), "", STATE, "slurmctld-blue", "/opt/slurm/etc")
    proposed = by_key(slurm=on_hosts(odd), conf=CONF, node=Node("nid000001", "", "xfs"))
    keys = ("controllers[0].user", "controllers[0].sudo", "slurm.service", "slurm.folder", "computes[0].hosts")
    assert [proposed[key].value for key in keys] == [
        "admin",
        True,
        "slurmctld-blue",
        "/opt/slurm/etc",
        "nid[000001-000002]",
    ]


@pytest.mark.parametrize(
    ("templates", "job", "words"),
    [
        ("", "", "Its slurm.conf is in ConfigMap user/slurm-conf."),
        ("services/t", "", "services/t looks like templates of it, but no Job mounts them"),
        ("services/t", "services/j", "rendered by Job services/j from ConfigMap services/t"),
    ],
)
def test_where_slurm_conf_comes_from(templates: str, job: str, words: str) -> None:
    """The comment above a pod says what has to be edited."""
    slurmctld = replace(POD, files="user/slurm-conf", templates=templates, job=job)
    proposed = by_key(slurm=PodSlurm("user", (slurmctld,)))
    assert words in proposed["controllers[0]"].source


@pytest.mark.parametrize(
    ("node", "conf", "words"),
    [
        pytest.param(None, POD_CONF, "configless", id="configless"),
        pytest.param(Node("nid000001", "", ""), CONF, "no slurm.conf of its own", id="none"),
        pytest.param(Node("nid000001", "", "nfs"), CONF, "hosts share (nfs)", id="shared"),
        pytest.param(None, Configuration("x", (Entry(("c",)),), "", False, (), ("d",)), "no nodes", id="no-nodes"),
    ],
)
def test_nodes_that_need_no_look(node: Node | None, conf: Configuration, words: str) -> None:
    """Where nodes have no slurm.conf of their own, none is listed, and the file says why."""
    proposed = by_key(slurm=on_hosts(PRIMARY), conf=conf, node=node)
    assert proposed["computes"].value is None
    assert words in proposed["computes"].source
