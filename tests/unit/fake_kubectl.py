#!/usr/bin/env python3
"""A kubectl for tests of scripts: the cluster is the folder of this file.

crds.json      CRDs of DWS: plural -> {"kind", "served", "storage"}
PLURAL.json    the objects of a kind
calls          what it was asked, a line each
closed         there while DWS is closed: a new object is refused then, in the words of the API server
others.json    objects of other API groups, with "resource": their plural; `kubectl proxy` serves them
broken         paths, a line each, at which `kubectl proxy` answers 503
down           API versions of which Kubernetes says that their server is not available
changed        what comes right before the first deletion: PLURAL -> the objects of that kind
fails, late    a word in the arguments of calls that fail, or come too late for a deadline of theirs
"""

import fcntl
import json
import os
import socketserver
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

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
    if words[0] == "proxy":
        proxy(words[-1].partition("=")[2])
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
    plurals = {crd_["kind"]: plural for plural, crd_ in json.loads(said("crds.json")).items()}
    for item in items:
        if plural := plurals.get(item["kind"]):
            new = {**item, "metadata": {**item["metadata"], "uid": "another", "resourceVersion": "9"}}
            write(plural, [*objects(plural), new])


def objects(plural: str) -> list[dict[str, Any]]:
    """Those of a kind. The API server gives each a resourceVersion."""
    found = json.loads(said(f"{plural}.json") or "[]")
    return [{**item, "metadata": {"resourceVersion": "1", **item["metadata"]}} for item in found]


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
        metas = [item["metadata"] for item in objects(plural) if item["metadata"]["name"] == name]
        if not metas or seen != {key: metas[0][key] for key in seen}:
            sys.exit("the precondition does not hold")
        write(plural, [item for item in objects(plural) if item["metadata"]["name"] != name])


def raw(path: str) -> str:
    """The answer at a path of the API."""
    crds = json.loads(said("crds.json"))
    if path.endswith("/customresourcedefinitions"):
        return json.dumps({"items": [crd(plural, **settings) for plural, settings in crds.items()]})
    if path.endswith("webhookconfigurations"):
        return json.dumps({"items": json.loads(said(f"{path.split('/')[-1]}.json") or "[]")})
    _, _, _, version, plural = path.split("/")
    if version not in crds[plural]["served"]:
        sys.exit("the server could not find the requested resource")
    return json.dumps({"items": [{**item, "apiVersion": f"{GROUP}/{version}"} for item in objects(plural)]})


# --- the API as `kubectl proxy` has it, as far as it matters


class Handler(BaseHTTPRequestHandler):
    """Answers GETs."""

    def do_GET(self) -> None:
        """What is at the path; a list in pages, and of objects the metadata alone where that is asked for."""
        at = urlsplit(self.path)
        query = parse_qs(at.query)
        with (HERE / "asked").open("a") as asked:
            asked.write(f"{self.path} {self.headers['Accept'].partition(',')[0]}\n")
        status, answer = (503, None) if at.path in said("broken").splitlines() else (200, served(at.path))
        status = status if answer is not None or status != 200 else 404
        if answer and "items" in answer:
            begin = int(query.get("continue", ["0"])[0])
            end = begin + int(query.get("limit", ["1000000"])[0])
            more = str(end) if end < len(answer["items"]) else ""
            alone = "PartialObjectMetadataList" in self.headers["Accept"]
            page = [{"metadata": item["metadata"]} if alone else item for item in answer["items"][begin:end]]
            answer = {"metadata": {"continue": more}, "items": page}
        content = json.dumps(answer or {"message": "no"}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def address_string(self) -> str:
        """A socket in a folder has no address."""
        return ""

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """One thread a connection."""

    daemon_threads = True


def proxy(path: str) -> None:
    """`kubectl proxy` until it is ended."""
    Server(path, Handler).serve_forever()


def served(path: str) -> Any:
    """The answer at a path; None where nothing is."""
    if path in said("gone").splitlines():
        return None
    others = json.loads(said("others.json") or "[]")
    crds = json.loads(said("crds.json"))
    own = sorted({version for settings in crds.values() for version in settings["served"]})
    groups = {GROUP: own}
    for item in others:
        group, _, version = item["apiVersion"].rpartition("/")
        groups.setdefault(group, [])
        groups[group] += [version] if version not in groups[group] else []
    if path == "/apis":
        return {"groups": [group_of(name, versions) for name, versions in groups.items() if name]}
    _, _, rest = path.partition("/apis/") if path.startswith("/apis/") else path.partition("/api/")
    parts = rest.split("/")
    if rest == "apiregistration.k8s.io/v1/apiservices":
        away = [line.partition("/") for line in said("away").splitlines()]
        return {"items": [{"spec": {"group": one[0], "version": one[2], "service": {"name": "x"}}} for one in away]}
    if rest.startswith("apiregistration.k8s.io/v1/apiservices/"):
        own_server = parts[-1] not in said("down").splitlines()
        state = {"conditions": [{"type": "Available", "status": "False"}]}
        return {"spec": {}} if own_server else {"spec": {"service": {"name": "x"}}, "status": state}
    if rest.startswith("apiextensions.k8s.io/"):
        plural = parts[-1].partition(".")[0]
        return crd(plural, **crds[plural])
    if parts == [GROUP]:
        return group_of(GROUP, own)
    version, plural = ("/".join(parts[:-1]), parts[-1]) if path.startswith("/apis/") and len(parts) == 3 else (rest, "")
    if path.startswith("/api/"):
        version, _, plural = rest.partition("/")
    if version.startswith(GROUP):
        return json.loads(raw(path)) if plural else {"resources": [kind_of(name, crds[name]["kind"]) for name in crds]}
    mine = [item for item in others if item["apiVersion"] == version]
    if plural:
        return {"items": [item for item in mine if item["resource"] == plural]} if mine else None
    return {"resources": [kind_of(*kind) for kind in sorted({(kind["resource"], kind["kind"]) for kind in mine})]}


def group_of(name: str, versions: list[str]) -> dict[str, object]:
    """A group as discovery tells it."""
    every = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": every, "preferredVersion": every[0]}


def kind_of(plural: str, kind: str) -> dict[str, object]:
    """A kind as discovery tells it."""
    return {"name": plural, "kind": kind, "namespaced": True, "verbs": ["delete", "get", "list"]}


def crd(plural: str, kind: str, served: list[str], storage: str) -> dict[str, object]:
    """A CRD as the API has it, as far as it matters."""
    versions = [{"name": name, "served": name in served, "storage": name == storage} for name in {*served, storage}]
    spec = {"group": GROUP, "names": {"plural": plural, "kind": kind}, "versions": versions}
    return {"metadata": {"name": f"{plural}.{GROUP}"}, "spec": spec}


if __name__ == "__main__":
    print(main(sys.argv[1:]))  # noqa: T201
