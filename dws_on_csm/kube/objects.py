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
