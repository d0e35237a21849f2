"""Edits of objects of the cluster, from a file: all of them or none, and only where they still say what was seen.

python3 pod_edit.py FILE NAMESPACE KUBECTL...: FILE is JSON, a list of {"object": "KIND/NAME", "at": [KEY, ...], "seen", "value"}.
A KEY {"name": NAME} picks from a list. null: no such key; "*" in "seen": whatever. Exit code 3: something else is there.
"""

import json
import pathlib
import subprocess
import sys

PATIENCE = 60
"""Seconds of one call of kubectl, which has its own for each request."""


def main(file, namespace, *kubectl):
    edits = json.loads(pathlib.Path(file).read_text())
    call = [*kubectl, "--namespace", namespace]
    names = list(dict.fromkeys(edit["object"] for edit in edits))
    before = {name: json.loads(run([*call, "get", name, "--output", "json"])) for name in names}
    after = json.loads(json.dumps(before))
    for edit in edits:
        change(after[edit["object"]], edit)
    done = []
    for name in names:
        done.append(name)
        try:
            run([*call, "replace", "--filename", "-"], json.dumps(after[name]))
        except SystemExit:
            for other in done:
                restore(call, other, before[other])
            raise


def restore(call, name, before):
    """An object as it was before; what got no answer may have been done all the same."""
    now = json.loads(run([*call, "get", name, "--output", "json"]))
    if now["metadata"].get("resourceVersion") != before["metadata"].get("resourceVersion"):
        del before["metadata"]["resourceVersion"]
        run([*call, "replace", "--filename", "-"], json.dumps(before))


def change(found, edit):
    *path, last = edit["at"]
    for key in path:
        found = found[place(found, key)] if isinstance(key, dict) else found.setdefault(key, {})
    key = place(found, last) if isinstance(last, dict) else last
    there = found[key] if isinstance(last, dict) else found.get(key)
    if there == edit["value"]:
        return
    if edit["seen"] not in ("*", there):
        print(f"{edit['object']} was changed since it was looked at: nothing was done, run again")
        sys.exit(3)
    if edit["value"] is None:
        del found[key]
    else:
        found[key] = edit["value"]


def place(found, key):
    return next(number for number, one in enumerate(found) if one["name"] == key["name"])


def run(command, feed=""):
    try:
        done = subprocess.run(
            command,
            input=feed,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        print(f"kubectl {command[-2]} got no answer within {PATIENCE} s")
        sys.exit(1)
    if done.returncode:
        print(done.stderr.strip()[-2000:])
        sys.exit(1)
    return done.stdout


main(*sys.argv[1:])
