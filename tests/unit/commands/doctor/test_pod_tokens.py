"""ServiceAccounts of DWS whose pods get no token."""

from __future__ import annotations

from typing import Any

from dws_on_csm.commands.doctor import pod_tokens
from dws_on_csm.domain import names
from dws_on_csm.model.step import ApiLook, StepContext
from tests.unit.commands.doctor.context import MASTER, SITE, place

MOUNT = {"mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "name": "kube-api-access-x"}
INSTALLED = {"tag": SITE.versions.dws, "unfinished": "", "namespace": True, "traces": ["Deployment x"], "crds": {}}


def a_deployment(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"template": {"spec": {"serviceAccountName": name, **spec}}}}


def a_pod(name: str, account: str, *mounts: dict[str, str], **meta: str) -> dict[str, Any]:
    containers = [{"name": "a"}, {"name": "b", "volumeMounts": list(mounts)}]
    return {"metadata": {"name": name, **meta}, "spec": {"serviceAccountName": account, "containers": containers}}


class Answers:
    """The API of a cluster with these objects in the namespace of DWS."""

    def __init__(self, closed: tuple[str, ...], pods: list[Any], **spec: Any) -> None:
        accounts = [
            {"metadata": {"name": name}, **({"automountServiceAccountToken": False} if name in closed else {})}
            for name in ("default", names.CONTROLLER, names.WEBHOOK)
        ]
        deployments = [a_deployment(names.CONTROLLER), a_deployment(names.WEBHOOK, **spec)]
        self.lists = {"serviceaccounts": accounts, "pods": pods, "deployments": deployments}

    def get(self, path: str, **query: str) -> Any:
        """A list by the last word of its path."""
        return {"items": self.lists[path.rpartition("/")[2]]}


def found(answers: Answers) -> list[str]:
    """Text and fix of what is found."""
    look = pod_tokens.CHECK.look(place(MASTER))
    assert isinstance(look, ApiLook)
    ctx: StepContext = place(MASTER, preflight_installed=INSTALLED)
    return [f"{finding.text} {finding.fix}" for finding in pod_tokens.judge(ctx, look.read(answers))]  # type: ignore[arg-type]


def test_accounts_that_give_no_token_are_named_with_the_pods_that_lack_it() -> None:
    """The commands have their names; a pod that is being deleted, or that has its token, is left alone."""
    pods = [
        a_pod("w1", names.WEBHOOK),
        a_pod("w2", names.WEBHOOK, MOUNT),
        a_pod("w3", names.WEBHOOK, deletionTimestamp="2026-01-01T00:00:00Z"),
        a_pod("c1", names.CONTROLLER),
    ]
    (said,) = found(Answers((names.CONTROLLER, names.WEBHOOK), pods))
    for name in (names.CONTROLLER, names.WEBHOOK):
        patch = f"`kubectl -n dws-system patch serviceaccount {name} --type=merge "
        assert patch + """-p '{"automountServiceAccountToken":null}'`""" in said
    assert "`kubectl -n dws-system delete pods w1 c1`" in said


def test_a_pod_that_started_before_has_its_token() -> None:
    """Nothing fails yet; the next start will."""
    (said,) = found(Answers((names.WEBHOOK,), [a_pod("w1", names.WEBHOOK, MOUNT)]))
    assert "the present pods still have theirs" in said and "delete pods" not in said


def test_accounts_that_do_not_matter() -> None:
    """Other accounts; and a Deployment that says itself whether its pods get a token."""
    assert found(Answers(("default",), [])) == []
    assert found(Answers((names.WEBHOOK,), [], automountServiceAccountToken=True)) == []
