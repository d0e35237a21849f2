"""Objects of the cluster as data: which parts the cluster itself writes, and whether two objects are equal. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_OF_THE_SERVER = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid")


_LATER = ("caBundle", "deployment.kubernetes.io/revision")
"""Fields that controllers fill in after an object was written."""


def normal(one: Any) -> Any:
    """An object without the fields that the API server writes, so that it can be created again; None for None."""
    if one is None:
        return None
    meta = {key: value for key, value in one["metadata"].items() if key not in _OF_THE_SERVER}
    return {**{key: value for key, value in one.items() if key != "status"}, "metadata": meta}


def fingerprint(one: Any) -> str:
    """A checksum that is the same for two equal objects; "absent" for None."""
    if one is None:
        return "absent"
    return hashlib.sha256(json.dumps(lasting(normal(one)), sort_keys=True).encode()).hexdigest()


def lasting(value: Any) -> Any:
    """An object without the fields that controllers fill in."""
    if isinstance(value, Mapping):
        return {key: lasting(one) for key, one in value.items() if key not in _LATER}
    return [lasting(one) for one in value] if isinstance(value, list) else value
