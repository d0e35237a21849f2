"""Who refused an object: what an API server's message says of it. A cluster's own policies and quotas refuse as DWS's webhook does,
and each of them has another fix. Pure; the messages are those of Kubernetes 1.20 to 1.33."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Literal

Kind = Literal["webhook", "policy", "quota", "limits", "default", "pod-security", "pod-security-policy"]


@dataclass(frozen=True)
class Refuser:
    """What refused an object.

    name     of the webhook (not of its configuration), the policy or the quota; of pod security the level; of a LimitRange, which
             the API server does not name, the limit: "max memory Container"; where a pod has a limit that is less than its
             request, as the default of a LimitRange makes it: the resource
    more     of a policy its binding; of a quota what it limits, "pods=1,cpu=2", with what was asked for
    failed   of a webhook: whether it gave no answer, so that the API server refused in its place
    """

    kind: Kind
    name: str
    more: str = ""
    failed: bool = False


_FORMS: tuple[tuple[Kind, bool, re.Pattern[str]], ...] = (
    ("webhook", True, re.compile(r'failed calling webhook "(?P<name>[^"]+)"')),
    ("webhook", False, re.compile(r'admission webhook "(?P<name>[^"]+)" denied the request')),
    (
        "policy",
        False,
        re.compile(r"ValidatingAdmissionPolicy '(?P<name>[^']+)'(?: with binding '(?P<more>[^']+)')? denied request"),
    ),
    ("quota", False, re.compile(r"exceeded quota: (?P<name>[^,\s]+), requested: (?P<more>\S+?), used:")),
    ("quota", False, re.compile(r"failed quota: (?P<name>[^:\s]+): must specify (?P<more>[^;\s]+)")),
    (
        "limits",
        False,
        re.compile(r" is forbidden: \[?(?P<name>(?:max|min)imum \S+ usage per \w+) is "),
    ),
    ("default", False, re.compile(r"must be less than or equal to (?P<name>cpu|memory) limit of ")),
    ("pod-security-policy", False, re.compile(r" is forbidden: (?P<name>PodSecurityPolicy): ")),
    ("pod-security", False, re.compile(r'violates PodSecurity "(?P<name>[^":]+)')),
)


def refuser(message: str) -> Refuser | None:
    """What refused, by the message of the API server; None where it does not say, or refused itself."""
    for kind, failed, form in _FORMS:
        if found := form.search(message):
            named = found.groupdict()
            if kind == "limits":
                end, resource, _, _, item = named["name"].split()
                return Refuser(kind, f"{end[:3]} {resource} {item}")
            return Refuser(kind, named["name"], named.get("more") or "", failed)
    return None


def quota_fix(namespace: str, quota: Refuser) -> str:
    """The command that removes a quota's limits that were too low."""
    limits = ", ".join(f'"{part.partition("=")[0]}": null' for part in quota.more.split(","))
    patch = f'{{"spec": {{"hard": {{{limits}}}}}}}'
    return shlex.join(["kubectl", "-n", namespace, "patch", "resourcequota", quota.name, "--type=merge", "-p", patch])
