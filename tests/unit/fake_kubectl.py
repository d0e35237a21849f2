#!/usr/bin/env python3
"""A kubectl for tests of scripts: the cluster is the folder of this file.

crds.json      CRDs of DWS: plural -> {"kind", "served", "storage"}
PLURAL.json    the objects of a kind
calls          what it was asked, a line each
closed         there while DWS is closed: a new object is refused then, in the words of the API server
changed        the objects of a kind as they are once one of them is to be deleted
fails, late    a word in the arguments of calls that fail, or come too late for a deadline of theirs
"""

import json
import sys
import time
from pathlib import Path

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
        sys.exit(f'failed calling webhook "{said("closed")}"' if said("closed") else 0)
    elif line.startswith("delete validatingwebhookconfiguration"):
        (HERE / "closed").unlink(missing_ok=True)
    elif line.startswith("delete --raw"):
        delete(line.split()[2], json.load(sys.stdin)["preconditions"])
    elif line.startswith("get --raw"):
        return raw(line.split()[2])
    return ""


def delete(path: str, seen: dict[str, str]) -> None:
    """An object goes, if it is as somebody has seen it; by now `changed` may say how it is."""
    plural, name = path.split("/")[-2:]
    items = json.loads(said("changed") or said(f"{plural}.json") or "[]")
    (HERE / f"{plural}.json").write_text(json.dumps(items))
    (meta,) = (one["metadata"] for one in items if one["metadata"]["name"] == name)
    if seen != {key: meta[key] for key in seen}:
        sys.exit("the precondition does not hold")
    (HERE / f"{plural}.json").write_text(json.dumps([one for one in items if one["metadata"]["name"] != name]))


def raw(path: str) -> str:
    """The answer at a path of the API."""
    crds = json.loads(said("crds.json"))
    if path.endswith("/customresourcedefinitions"):
        return json.dumps({"items": [crd(plural, **one) for plural, one in crds.items()]})
    _, _, _, version, plural = path.split("/")
    if version not in crds[plural]["served"]:
        sys.exit("the server could not find the requested resource")
    items = json.loads(said(f"{plural}.json") or "[]")
    return json.dumps({"items": [{**one, "apiVersion": f"{GROUP}/{version}"} for one in items]})


def crd(plural: str, kind: str, served: list[str], storage: str) -> dict[str, object]:
    """A CRD as the API has it, as far as it matters."""
    versions = [{"name": one, "served": one in served, "storage": one == storage} for one in {*served, storage}]
    spec = {"group": GROUP, "names": {"plural": plural, "kind": kind}, "versions": versions}
    return {"metadata": {"name": f"{plural}.{GROUP}"}, "spec": spec}


if __name__ == "__main__":
    print(main(sys.argv[1:]))  # noqa: T201
