"""Closing DWS while a run removes it: a webhook configuration with nobody behind it, so that the API server refuses objects.

Where somebody else deploys DWS, it stays, and others use it: then it is closed to the Workflows of one Slurm alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dws_on_csm.domain import names

NAME = "dws-on-csm-closed"
PATH = f"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{NAME}"

REMOVED_WORDS = "dws-is-being-removed.submit-again-later"
"""What sbatch shows while DWS is closed to all jobs: the beginning of a webhook's name."""

CONFIGURATION: Mapping[str, Any] = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingWebhookConfiguration",
    "metadata": {"name": NAME},
    "webhooks": [
        {
            # kubectl's words, which sbatch shows, have this name in them
            "name": f"{REMOVED_WORDS}.dws-on-csm.invalid",
            "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {"namespace": names.NAMESPACE, "name": NAME, "path": "/"}},
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "timeoutSeconds": 5,
            "rules": [
                {
                    "apiGroups": [names.GROUP],
                    "apiVersions": ["*"],
                    "operations": ["CREATE"],
                    "resources": ["*"],
                    "scope": "*",
                }
            ],
        }
    ],
}


WORDS = "burst-buffer-is-being-removed.submit-again-later"
"""How sbatch names what refuses a job while DWS is closed to one Slurm."""

KINDS = ("workflows", "dwdirectiverules")
"""What is closed to one Slurm: the kind that jobs need, and one with which it can be tried that it is closed."""


def of_slurm(labels: Mapping[str, str], namespaces: Sequence[str]) -> Mapping[str, Any]:
    """The configuration that refuses Workflows with these labels in these namespaces; without namespaces in all of them.

    The program that applies it leaves the namespaces out where the API server, before Kubernetes 1.21, gives them no label.
    """
    (webhook,) = CONFIGURATION["webhooks"]
    (rule,) = webhook["rules"]
    named = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": [*namespaces]}
    closed = {
        **webhook,
        "name": f"{WORDS}.dws-on-csm.invalid",
        "rules": [{**rule, "resources": [*KINDS]}],
        "objectSelector": {"matchLabels": dict(labels)},
        **({"namespaceSelector": {"matchExpressions": [named]}} if namespaces else {}),
    }
    return {**CONFIGURATION, "webhooks": [closed]}


def covers(have: Mapping[str, Any] | None, want: Mapping[str, Any]) -> bool:
    """Whether the configuration that the API has refuses all that `want`, of of_slurm(), would refuse: a run of another Slurm may
    have left its own."""
    (wanted,) = want["webhooks"]
    return any(_covers(webhook, wanted) for webhook in (have or {}).get("webhooks") or ())


def _covers(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    resources = {plural for rule in there["rules"] for plural in rule["resources"]}
    labels, values = there.get("objectSelector") or {}, _values(there)
    return (
        bool(resources & {"*", "workflows"})
        and labels in ({}, wanted["objectSelector"])
        and (values is None or values >= (_values(wanted) or {""}))
    )


def _values(webhook: Mapping[str, Any]) -> set[str] | None:
    """The namespaces that are closed; None: all."""
    selector = webhook.get("namespaceSelector")
    return set(selector["matchExpressions"][0]["values"]) if selector else None


PATH = f"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{NAME}"
