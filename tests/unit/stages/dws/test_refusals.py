"""A rule of the cluster that refuses an object is told from DWS's own webhook, and named with the command that shows it."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest

from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.stages.dws import refusals

WEBHOOK = 'Internal error occurred: failed calling webhook "{}": failed to call webhook: Post "https://x.y.svc:443/": no endpoints'
DENIED = 'admission webhook "{}" denied the request: not here'
POLICY = (
    "workflows.dataworkflowservices.github.io \"w\" is forbidden: ValidatingAdmissionPolicy 'no-storage' with binding "
    "'everywhere' denied request: failed expression: false"
)
QUOTA = (
    'pods "dws-webhook-5d-x" is forbidden: exceeded quota: few, requested: limits.cpu=500m,pods=1, used: limits.cpu=1,pods=1, '
    "limited: limits.cpu=1,pods=1"
)
LACKS = 'pods "dws-webhook-5d-x" is forbidden: failed quota: few: must specify limits.cpu for: manager; limits.memory for: manager'
TOO_LARGE = (
    'pods "dws-webhook-5d-x" is forbidden: [maximum cpu usage per Container is 5m, but limit is 500m, maximum memory usage per '
    "Container is 8Mi, but limit is 128Mi]"
)
LESS = (
    'Pod "dws-webhook-7d-x" is invalid: [spec.containers[0].resources.requests: Invalid value: "100m": must be less than or equal '
    "to cpu limit of 5m]"
)
SECURE = 'pods "dws-webhook-5d-x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true (pod must not ...)'
POLICIES = (
    'pods "dws-webhook-5d-" is forbidden: PodSecurityPolicy: unable to admit pod: [spec.volumes[0]: Invalid value: "hostPath": '
    "hostPath volumes are not allowed to be used]"
)


class Configurations:
    """The API of a cluster with two webhooks: DWS's and gatekeeper's."""

    def get(self, path: str, **query: str) -> Any:
        """The validating configurations; there is no mutating one."""
        if path.endswith("/limitranges"):
            limits = {
                "few": [{"type": "Pod", "max": {"cpu": "1"}}],
                "small": [{"type": "Container", "max": {"cpu": "5m"}, "default": {"cpu": "5m"}}],
            }
            return {"items": [{"metadata": {"name": name}, "spec": {"limits": item}} for name, item in limits.items()]}
        if path == "/apis/policy/v1beta1/podsecuritypolicies":
            volumes = {"restricted": ["secret", "configMap"], "privileged": ["*"]}
            return {
                "items": [{"metadata": {"name": name}, "spec": {"volumes": each}} for name, each in volumes.items()]
            }
        if not path.endswith("/validatingwebhookconfigurations"):
            return {"items": []}
        names = {
            "dws": ("vworkflow.kb.io", "dws-system"),
            "gatekeeper": ("validation.gatekeeper.sh", "gatekeeper-system"),
        }
        return {
            "items": [
                {
                    "metadata": {"name": name},
                    "webhooks": [
                        {"name": webhook, "clientConfig": {"service": {"namespace": space, "name": f"{name}-s"}}}
                    ],
                }
                for name, (webhook, space) in names.items()
            ]
        }


@pytest.mark.parametrize(
    ("message", "rule", "typed"),
    [
        (POLICY, "validatingadmissionpolicy no-storage", "kubectl delete validatingadmissionpolicybinding everywhere"),
        (
            QUOTA,
            "resourcequota few",
            """kubectl -n dws-system patch resourcequota few --type=merge """
            """-p '{"spec": {"hard": {"limits.cpu": null, "pods": null}}}'""",
        ),
        (
            LACKS,
            "resourcequota few",
            """kubectl -n dws-system patch resourcequota few --type=merge -p '{"spec": {"hard": {"limits.cpu": null}}}'""",
        ),
        (LESS, "limitrange small", "kubectl -n dws-system delete limitrange small"),
        (TOO_LARGE, "limitrange small", "kubectl -n dws-system delete limitrange small"),
        (
            SECURE,
            "namespace dws-system",
            "kubectl label --overwrite namespace dws-system pod-security.kubernetes.io/enforce=privileged",
        ),
        (
            DENIED.format("validation.gatekeeper.sh"),
            "validatingwebhookconfiguration gatekeeper",
            "kubectl delete validatingwebhookconfiguration gatekeeper",
        ),
    ],
)
def test_a_rule_is_named_and_the_command_that_removes_it(message: str, rule: str, typed: str) -> None:
    """The first command shows it, for those who own it; the second one is for a rule that nobody needs."""
    refusal = refusals.read(Configurations(), message, "dws-system", ("dws-system",))  # type: ignore[arg-type]
    assert refusal is not None
    found = refusals.finding(refusal, "pods of DWS", "dws-system", "no pod that ends is replaced")
    assert rule in found.text and message in found.text
    shown, removed = re.findall(r"`([^`]+)`", found.fix)
    assert shlex.split(shown)[-5:] == ["get", *rule.split(), "-o", "yaml"] and removed == typed


def test_pods_that_no_policy_admits_get_a_wider_one() -> None:
    """Until Kubernetes 1.24 pods need a PodSecurityPolicy; newer DWS has volumes that narrow ones forbid."""
    refusal = refusals.read(Configurations(), POLICIES, "dws-system", ("dws-system",))  # type: ignore[arg-type]
    assert refusal is not None
    found = refusals.finding(refusal, "pods of DWS", "dws-system", "pods that end are not replaced")
    assert POLICIES in found.text
    shown, allowed = re.findall(r"`([^`]+)`", found.fix)
    assert shown == "kubectl get podsecuritypolicies"
    assert "--resource-name=privileged && " in allowed and "--group=system:serviceaccounts:dws-system" in allowed


def test_a_webhook_that_does_not_respond_is_named_with_its_service() -> None:
    """Somebody else's program is down: its pods are shown first, and its configuration removed only if it is not in use."""
    message = WEBHOOK.format("validation.gatekeeper.sh")
    refusal = refusals.read(Configurations(), message, "default", ("dws-system",))  # type: ignore[arg-type]
    assert refusal is not None
    found = refusals.finding(refusal, "Workflows", "default", "every sbatch fails")
    assert re.findall(r"`([^`]+)`", found.fix) == [
        "kubectl -n gatekeeper-system get pods,service,endpoints",
        "kubectl delete validatingwebhookconfiguration gatekeeper",
    ]


@pytest.mark.parametrize(
    "message", [WEBHOOK.format("vworkflow.kb.io"), DENIED.format("vworkflow.kb.io"), "Unauthorized", ""]
)
def test_dws_s_own_webhook_is_no_rule_of_others(message: str) -> None:
    """Nor is what the API server itself refuses."""
    assert refusals.read(Configurations(), message, "default", ("dws-system",)) is None  # type: ignore[arg-type]


def test_who_may_not_list_webhooks_gets_no_wrong_name() -> None:
    """Then the finding about DWS's webhook shows the API server's words as before."""

    class Refusing:
        def get(self, path: str, **query: str) -> Any:
            raise ClusterError(403, "forbidden")

    message = DENIED.format("validation.gatekeeper.sh")
    assert refusals.read(Refusing(), message, "default", ("dws-system",)) is None  # type: ignore[arg-type]


class Audited:
    """The API of a cluster with two webhooks that are asked about everything: one may take 8 s, one 30 s."""

    def get(self, path: str, **query: str) -> Any:
        """The mutating configurations; there is no validating one."""
        every = {"operations": ["*"], "apiGroups": ["*"], "resources": ["*"]}
        pods = {"operations": ["CREATE"], "apiGroups": [""], "resources": ["pods"]}
        hooks = [
            {"name": "audit.site", "timeoutSeconds": 8, "failurePolicy": "Ignore", "rules": [pods, every]},
            {"name": "late.site", "timeoutSeconds": 30, "failurePolicy": "Ignore", "rules": [every]},
            {"name": "pods.site", "timeoutSeconds": 5, "failurePolicy": "Ignore", "rules": [pods]},
            {"name": "strict.site", "timeoutSeconds": 5, "failurePolicy": "Fail", "rules": [every]},
        ]
        named = path.endswith("/mutatingwebhookconfigurations")
        return {"items": [{"metadata": {"name": "site"}, "webhooks": hooks}] if named else []}


def test_a_webhook_for_which_each_creation_waits_is_named() -> None:
    """One that concerns Workflows, that need not answer, and whose time fits into what a creation took."""
    waiting = refusals.waited_for(Audited(), "dataworkflowservices.github.io", "workflows", 9.2)  # type: ignore[arg-type]
    assert [each["webhook"] for each in waiting] == ["audit.site"]
    found = refusals.slow_finding(9.2, waiting)
    assert re.findall(r"`([^`]+)`", found.fix) == [
        "kubectl get mutatingwebhookconfiguration site -o yaml",
        "kubectl delete mutatingwebhookconfiguration site",
    ]
