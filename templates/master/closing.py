# Closes DWS: from now on the API server rejects new objects of its kinds, with a message. Goes after the text of
# domain/dws_objects.py. It returns once DWS is closed. The caller reopens DWS, however this ends.
# It prints a failure and ends with exit code 1: a server did not respond, or new objects are still accepted.

import json
import subprocess
import sys
import time

LONGEST, USUAL = 60, 10
"""Seconds after which the API server gives up a request by default; and those that it waits for a webhook that does not say."""

TIMES = {"closed": 30, "known": 2, "answer": 60}


def tell(text):
    """Print a line in UTF-8, whatever the locale is: with LC_ALL=C, Python 3.6 prints ASCII only."""
    sys.stdout.flush()
    sys.stdout.buffer.write((text + "\n").encode("utf-8", "replace"))
    sys.stdout.buffer.flush()


def close(closing):
    """`closing`: the configuration that closes DWS."""
    spaces = namespaces_to_try(closing["webhooks"][0])
    kubectl(["apply", "--filename", "-"], json.dumps(closing))
    if spaces:
        wait_closed(closing["webhooks"][0], spaces[0])
    # each API server learns of it separately, and nothing says when the last of them has
    time.sleep(TIMES["known"] + in_flight(closing["metadata"]["name"]))


def namespaces_to_try(webhook):
    """The namespaces in which it can be tried that DWS is closed; none where those that it is closed in do not exist.

    The API server labels namespaces with their names from Kubernetes 1.21 on. Without that, DWS is closed in all of them.
    """
    if "namespaceSelector" not in webhook:
        return ["default"]
    (term,) = webhook["namespaceSelector"]["matchExpressions"]
    every = [item["metadata"] for item in json.loads(kubectl(["get", "--raw", "/api/v1/namespaces"]))["items"] or []]
    if not all((meta.get("labels") or {}).get(term["key"]) == meta["name"] for meta in every):
        del webhook["namespaceSelector"]
    return [meta["name"] for meta in every if meta["name"] in term["values"]]


def in_flight(closed):
    """Seconds until a request has ended that began before DWS was closed. `closed`: the name of our configuration.

    The API server chooses a request's webhooks when it begins, and stores the object after the last of them has answered; it calls
    the mutating ones one after the other.
    """
    longest = {
        kind: [
            webhook.get("timeoutSeconds") or USUAL
            for configuration in json.loads(kubectl(["get", "--raw", f"/apis/admissionregistration.k8s.io/v1/{kind}"]))[
                "items"
            ]
            or []
            for webhook in configuration.get("webhooks") or []
            if configuration["metadata"]["name"] != closed and any(map(of_dws_kinds, webhook.get("rules") or []))
        ]
        for kind in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")
    }
    mutating, validating = longest.values()
    return min(LONGEST, sum(mutating) + max([*validating, 0]))


def of_dws_kinds(rule):
    groups, operations = set(rule.get("apiGroups") or []), set(rule.get("operations") or [])
    return bool(groups & {GROUP, "*"} and operations & {"CREATE", "UPDATE", "*"})


def wait_closed(webhook, space):
    """Return once a new object is rejected by our webhook. Where no kind is left to try it with, DWS is almost removed."""
    there, closed = crds(), set(webhook["rules"][0]["resources"])
    kind = next(
        (plural for plural in ("computes", "dwdirectiverules") if plural in there and closed & {plural, "*"}), None
    )
    if kind is None:
        return
    trial = {
        "apiVersion": f"{GROUP}/{version(there[kind])}",
        "kind": there[kind]["spec"]["names"]["kind"],
        "metadata": {
            "name": "dws-on-csm-closed",
            "namespace": space,
            "labels": webhook.get("objectSelector", {}).get("matchLabels", {}),
        },
    }
    deadline_at = time.monotonic() + TIMES["closed"]
    while True:
        done = call(["create", "--dry-run=server", "--filename", "-"], json.dumps(trial))
        if webhook["name"] in done.stderr:
            return
        if time.monotonic() > deadline_at:
            tell("DWS cannot be closed: {}".format(done.stderr.strip() or "its API still accepts new objects"))
            sys.exit(1)
        time.sleep(0.2)


def crds():
    every = (
        json.loads(kubectl(["get", "--raw", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"]))["items"] or []
    )
    return {crd["spec"]["names"]["plural"]: crd for crd in every if crd["spec"]["group"] == GROUP}


def version(crd):
    """The version in which objects are stored if it is served, because no webhook has to convert them then; else another one."""
    versions = sorted((v for v in crd["spec"]["versions"] if v["served"]), key=lambda v: not v["storage"])
    if not versions:
        tell("CRD {} serves no version, so its objects cannot be listed".format(crd["metadata"]["name"]))
        sys.exit(1)
    return versions[0]["name"]


def kubectl(words, feed=""):
    done = call(words, feed)
    if done.returncode:
        tell("kubectl {}: {}".format(" ".join(words), done.stderr.strip() or f"exit code {done.returncode}"))
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
            encoding="utf-8",
            errors="replace",
            timeout=2 * TIMES["answer"],
        )
    except subprocess.TimeoutExpired:
        tell("kubectl {} timed out after {} s".format(" ".join(words), 2 * TIMES["answer"]))
        sys.exit(1)
