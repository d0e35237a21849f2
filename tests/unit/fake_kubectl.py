#!/usr/bin/env python3
"""A kubectl for tests of scripts: the cluster is the folder of this file.

crds.json      CRDs of DWS: plural -> {"kind", "served", "storage"}
PLURAL.json    the objects of a kind
calls          what it was asked, a line each
closed         there while DWS is closed: a new object is refused then, in the words of the API server
changed        what comes right before the first deletion: PLURAL -> the objects of that kind
fails, late    a word in the arguments of calls that fail, or come too late for a deadline of theirs
"""

import fcntl
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
GROUP = "dataworkflowservices.github.io"


def said(name: str) -> str:
    """What a file of the folder says; "" where there is none."""
    return (HERE / name).read_text().strip() if (HERE / name).exists() else ""


def main(words: list[str]) -> str:
    """What is to be printed."""
    line = " ".join(word for word in words if not word.startswith("--request-timeout"))
    with (HERE / "calls").open("a") as calls:
        calls.write(line + "\n")
    for name in ("fails", "late"):
        if said(name) and said(name) in line:
            time.sleep(300 if name == "late" else 0)
            sys.exit("Unable to connect to the server")
    if line.startswith("apply"):
        (HERE / "closed").write_text(json.load(sys.stdin)["webhooks"][0]["name"])
    elif line.startswith("create"):
        create([] if "--dry-run" in line else json.load(sys.stdin)["items"])
    elif line.startswith("delete validatingwebhookconfiguration"):
        (HERE / "closed").unlink(missing_ok=True)
    elif line.startswith("delete --raw"):
        delete(line.split()[2], json.load(sys.stdin)["preconditions"])
    elif line.startswith("get --raw"):
        return raw(line.split()[2])
    return ""


def create(items: list[dict[str, Any]]) -> None:
    """New objects, unless DWS is closed; those whose kind is there."""
    if said("closed"):
        sys.exit(f'failed calling webhook "{said("closed")}"')
    plurals = {one["kind"]: plural for plural, one in json.loads(said("crds.json")).items()}
    for one in items:
        if plural := plurals.get(one["kind"]):
            new = {**one, "metadata": {**one["metadata"], "uid": "another", "resourceVersion": "9"}}
            write(plural, [*objects(plural), new])


def objects(plural: str) -> list[dict[str, Any]]:
    """Those of a kind. The API server gives each a resourceVersion."""
    found = json.loads(said(f"{plural}.json") or "[]")
    return [{**one, "metadata": {"resourceVersion": "1", **one["metadata"]}} for one in found]


def write(plural: str, items: list[dict[str, Any]]) -> None:
    """From now on these are those of a kind; nobody reads a half of it."""
    beside = HERE / f"{plural}.part.{os.getpid()}"
    beside.write_text(json.dumps(items))
    beside.rename(HERE / f"{plural}.json")


def delete(path: str, seen: dict[str, str]) -> None:
    """An object goes, if it is as somebody has seen it; by now `changed` may say how it is."""
    with (HERE / "calls").open() as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        for plural, items in json.loads(said("changed") or "{}").items():
            write(plural, items)
        (HERE / "changed").unlink(missing_ok=True)
        plural, name = path.split("/")[-2:]
        metas = [one["metadata"] for one in objects(plural) if one["metadata"]["name"] == name]
        if not metas or seen != {key: metas[0][key] for key in seen}:
            sys.exit("the precondition does not hold")
        write(plural, [one for one in objects(plural) if one["metadata"]["name"] != name])


def raw(path: str) -> str:
    """The answer at a path of the API."""
    crds = json.loads(said("crds.json"))
    if path.endswith("/customresourcedefinitions"):
        return json.dumps({"items": [crd(plural, **one) for plural, one in crds.items()]})
    _, _, _, version, plural = path.split("/")
    if version not in crds[plural]["served"]:
        sys.exit("the server could not find the requested resource")
    return json.dumps({"items": [{**one, "apiVersion": f"{GROUP}/{version}"} for one in objects(plural)]})


def crd(plural: str, kind: str, served: list[str], storage: str) -> dict[str, object]:
    """A CRD as the API has it, as far as it matters."""
    versions = [{"name": one, "served": one in served, "storage": one == storage} for one in {*served, storage}]
    spec = {"group": GROUP, "names": {"plural": plural, "kind": kind}, "versions": versions}
    return {"metadata": {"name": f"{plural}.{GROUP}"}, "spec": spec}


if __name__ == "__main__":
    print(main(sys.argv[1:]))  # noqa: T201
