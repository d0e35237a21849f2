"""Closing DWS while a run removes it: a webhook configuration with nobody behind it, so that the API server refuses objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dws_on_csm.domain import names

NAME = "dws-on-csm-closed"

CONFIGURATION: Mapping[str, Any] = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingWebhookConfiguration",
    "metadata": {"name": NAME},
    "webhooks": [
        {
            # kubectl's words, which sbatch shows, have this name in them
            "name": "dws-is-being-removed.submit-again-later.dws-on-csm.invalid",
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
PATH = f"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{NAME}"
