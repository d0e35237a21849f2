"""Objects of the cluster as data: which parts the cluster itself writes, and whether two objects are equal. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_OF_THE_SERVER = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid")


_LATER = ("caBundle", "deployment.kubernetes.io/revision")
"""Fields that controllers fill in after an object was written."""


def normal(item: Any) -> Any:
    """An object without the fields that the API server writes, so that it can be created again; None for None."""
    if item is None:
        return None
    meta = {key: value for key, value in item["metadata"].items() if key not in _OF_THE_SERVER}
    return {**{key: value for key, value in item.items() if key != "status"}, "metadata": meta}


def fingerprint(item: Any) -> str:
    """A checksum that is the same for two equal objects; "absent" for None."""
    if item is None:
        return "absent"
    return hashlib.sha256(json.dumps(without_controller_fields(normal(item)), sort_keys=True).encode()).hexdigest()


def without_controller_fields(value: Any) -> Any:
    """An object without the fields that controllers fill in."""
    if isinstance(value, Mapping):
        return {key: without_controller_fields(field) for key, field in value.items() if key not in _LATER}
    return [without_controller_fields(item) for item in value] if isinstance(value, list) else value


def conditions(item: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The conditions in the status of an object."""
    return list((item.get("status") or {}).get("conditions") or [])


def condition(item: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """The condition of one type in the status of an object; empty where it has none."""
    return next((one for one in conditions(item) if one.get("type") == kind), {})


def is_true(item: Mapping[str, Any], kind: str) -> bool:
    """Whether an object has a condition of this type that is True."""
    return condition(item, kind).get("status") == "True"
