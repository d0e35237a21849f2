"""What the plugin's ClusterRole has to allow, and what its rules do allow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dws_on_csm.domain import names

Rules = Sequence[Mapping[str, Any]] | None
"""The rules of a ClusterRole as the API has them."""

VERBS = ("create", "get", "patch", "delete")
"""What the plugin does with Workflows: apply (get, create, patch), read, set the wanted state, delete."""


def subject_name(subject: Mapping[str, Any]) -> str:
    """A subject of a binding as "User slurm-dws"."""
    name = f"{subject['namespace']}/{subject['name']}" if "namespace" in subject else subject["name"]
    return f"{subject['kind']} {name}"


def lacking(rules: Rules) -> list[str]:
    """The verbs that the plugin needs on Workflows and the rules do not allow."""
    return [verb for verb in VERBS if not any(_allows(rule, verb) for rule in rules or ())]


def allowed(rules: Rules) -> set[str]:
    """All that the rules allow, as "VERB OBJECT"."""
    return {f"{verb} {target}" for rule in rules or () for verb in rule.get("verbs") or () for target in _targets(rule)}


def harmless(have: Rules, want: Rules) -> bool:
    """Whether the plugin can work with rules that differ from the wanted ones, and may do nothing more."""
    return not lacking(have) and allowed(have) <= allowed(want)


def _targets(rule: Mapping[str, Any]) -> Iterator[str]:
    """What a rule is about: RESOURCE or RESOURCE.GROUP, as kubectl names it, and URLs."""
    yield from rule.get("nonResourceURLs") or ()
    for resource in rule.get("resources") or ():
        yield from (f"{resource}.{group}" if group else resource for group in rule.get("apiGroups") or ())


def _allows(rule: Mapping[str, Any], verb: str) -> bool:
    """Whether a rule allows this verb on Workflows."""
    needed = {"apiGroups": names.GROUP, "resources": "workflows", "verbs": verb}
    return all({word, "*"} & set(rule.get(key) or ()) for key, word in needed.items())
