"""DWS's namespace while it is being deleted: the finding names what holds it, and its commands free that very object."""

from __future__ import annotations

import re
import shlex
from typing import Any, cast

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.step import Facts, StepContext
from dws_on_csm.stages.dws import namespace_deletion

PLACE = StepContext(load(DEFAULT), Facts({}), "m")
REMAIN = "Some resources are remaining: configmaps. has 1 resource instances, issuers.cert-manager.io has 2 resource instances"
FINALIZERS = "Some content in the namespace has finalizers remaining: example.com/held in 2 resource instances"
GROUP = {"preferredVersion": {"groupVersion": "cert-manager.io/v1"}}


class Api:
    """An API server with a namespace in this state."""

    def __init__(self, metadata: dict[str, Any], *messages: str) -> None:
        conditions = [{"status": "True", "message": message} for message in messages]
        conditions.append({"status": "False", "message": "All content successfully deleted"})
        self.objects = {"/api/v1/namespaces/dws-system": {"metadata": metadata, "status": {"conditions": conditions}}}
        self.objects["/apis/cert-manager.io"] = GROUP

    def get(self, path: str) -> dict[str, Any] | None:
        return self.objects.get(path)

    def metadata(self, path: str) -> list[dict[str, Any]]:
        kept = {"name": "kube-root-ca.crt"}
        answers: dict[str, list[dict[str, Any]]] = {
            "/api/v1/namespaces/dws-system/configmaps": [kept, {"name": "held", "finalizers": ["example.com/held"]}],
            "/apis/cert-manager.io/v1/namespaces/dws-system/issuers": [{"name": "a b", "finalizers": ["x/y"]}],
        }
        return answers[path]


def found(metadata: dict[str, Any], *messages: str) -> list[tuple[str, str, str]]:
    api = cast(Cluster, Api(metadata, *messages))
    have = namespace_deletion.read(api)
    return [(finding.name, finding.text, finding.fix) for finding in namespace_deletion.CHECK.judge(PLACE, have)]


def test_the_objects_that_hold_the_namespace_are_named() -> None:
    """By resource, name and finalizer, of any API group; the commands patch these objects alone, each name one word."""
    ((name, text, fix),) = found({"deletionTimestamp": "2026-01-01T00:00:00Z"}, REMAIN, FINALIZERS)
    assert name == "namespace-terminating"
    assert "configmaps/held (finalizer example.com/held); issuers.cert-manager.io/a b (finalizer x/y)" in text
    commands = [shlex.split(command) for command in re.findall(r"`(kubectl [^`]* patch [^`]*)`", fix)]
    assert [command[4:6] for command in commands] == [["configmaps", "held"], ["issuers.cert-manager.io", "a b"]]


def test_what_the_conditions_say_is_shown_where_no_object_is_known() -> None:
    """An API group whose server is down: the namespace's own words."""
    ((_, text, _),) = found({"deletionTimestamp": "2026-01-01T00:00:00Z"}, "Discovery failed for some groups")
    assert text.endswith("It waits: Discovery failed for some groups")


def test_a_namespace_that_stays_has_no_finding() -> None:
    """Neither one without deletionTimestamp, nor one that does not exist."""
    assert found({}) == []
