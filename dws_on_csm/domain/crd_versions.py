"""The versions of a CRD, with what their schemas have. Pure.

This text also runs on the master, where it reads manifests: only the standard library, in Python 3.6.
"""

from typing import Any, Dict, Iterator, Tuple


def described(crd: Dict[str, Any]) -> Dict[str, Dict[str, Any]]:
    """Name -> what a version of a CRD has: see domain/workflow_version.Version."""
    return {version["name"]: _described(version) for version in crd["spec"]["versions"]}


def _described(version: Dict[str, Any]) -> Dict[str, Any]:
    schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
    spec = (schema.get("properties") or {}).get("spec") or {}
    known = spec.get("properties") or {}
    required = [name for name in spec.get("required", []) if "default" not in known.get(name, {})]
    served, storage = version["served"], version["storage"]
    return {"served": served, "storage": storage, "fields": dict(_fields(schema, "")), "required": required}


def _fields(schema: Dict[str, Any], at: str) -> Iterator[Tuple[str, str]]:
    for name, part in (schema.get("properties") or {}).items():
        path = at + "." + name
        yield path, "int-or-string" if part.get("x-kubernetes-int-or-string") else part.get("type", "")
        yield from _fields(part, path)
        yield from _fields(part.get("items") or {}, path + "[]")
