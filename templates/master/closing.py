# Closes DWS, behind the text of domain/dws_objects.py: the API server refuses new objects of its kinds from now on, with
# words. It ends
# when that holds. Nobody opens DWS here: whoever calls this does, however it ends.
# What is wrong it prints, and ends with exit code 1: somebody did not answer, or new objects are still admitted.

import json
import subprocess
import sys
import time

TIMES = {"closed": 30, "known": 2, "answer": 60}


def close(closing):
    """`closing`: the configuration that closes DWS."""
    kubectl(["apply", "--filename", "-"], json.dumps(closing))
    wait_closed(closing["webhooks"][0]["name"])
    # each API server hears of it for itself, and nothing says when the last of them has
    time.sleep(TIMES["known"])


def wait_closed(webhook):
    """Returns once a new object is refused for our sake. Where no kind is left that shows it, DWS is as good as gone."""
    there = crds()
    kind = next((plural for plural in ("computes", "dwdirectiverules") if plural in there), None)
    if kind is None:
        return
    trial = {
        "apiVersion": f"{GROUP}/{version(there[kind])}",
        "kind": there[kind]["spec"]["names"]["kind"],
        "metadata": {"name": "dws-on-csm-closed", "namespace": "default"},
    }
    ends = time.monotonic() + TIMES["closed"]
    while True:
        done = call(["create", "--dry-run=server", "--filename", "-"], json.dumps(trial))
        if webhook in done.stderr:
            return
        if time.monotonic() > ends:
            print("DWS could not be closed: {}".format(done.stderr.strip() or "new objects are still admitted"))
            sys.exit(1)
        time.sleep(0.2)


def crds():
    every = (
        json.loads(kubectl(["get", "--raw", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"]))["items"] or []
    )
    return {one["spec"]["names"]["plural"]: one for one in every if one["spec"]["group"] == GROUP}


def version(crd):
    """The version in which objects are stored, where it is served: no webhook has to convert them then."""
    versions = sorted((v for v in crd["spec"]["versions"] if v["served"]), key=lambda v: not v["storage"])
    if not versions:
        print("CRD {} serves no version, so nobody can say what it holds".format(crd["metadata"]["name"]))
        sys.exit(1)
    return versions[0]["name"]


def kubectl(words, feed=""):
    done = call(words, feed)
    if done.returncode:
        print("kubectl {}: {}".format(" ".join(words), done.stderr.strip() or f"exit code {done.returncode}"))
        sys.exit(1)
    return done.stdout


def call(words, feed):
    command = ["kubectl", "--request-timeout={}s".format(TIMES["answer"]), *words]
    try:
        return subprocess.run(
            command,
            input=feed,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            timeout=2 * TIMES["answer"],
        )
    except subprocess.TimeoutExpired:
        print("kubectl {}: no answer within {} s".format(" ".join(words), 2 * TIMES["answer"]))
        sys.exit(1)
