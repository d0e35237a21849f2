"""Edits of objects of the cluster, from a file: all of them or none, and only where they still say what was seen.

python3 pod_edit.py FILE NAMESPACE KUBECTL...: FILE is JSON, a list of {"object": "KIND/NAME", "at": [KEY, ...], "seen", "value"}.
A KEY {"name": NAME} picks from a list. null: no such key; "*" in "seen": whatever. Exit code 3: something else is there.
"""

import json
import pathlib
import subprocess
import sys
import threading
import time

PATIENCE = 60
"""Seconds of one call of kubectl, which has its own for each request."""
MOST = 16 << 20
"""Bytes that one call may print: the API server takes no object of a tenth of that."""


def main(file, namespace, *kubectl):
    edits = json.loads(pathlib.Path(file).read_text(encoding="utf-8"))
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
        tell(f"{edit['object']} was changed meanwhile: nothing was done, run again")
        sys.exit(3)
    if edit["value"] is None:
        del found[key]
    else:
        found[key] = edit["value"]


def place(found, key):
    return next(number for number, one in enumerate(found) if one["name"] == key["name"])


def run(command, feed=""):
    """What kubectl prints; where it fails, says more than MOST, or takes too long, that in words, and an end."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, **pipes)
    told = {}

    def read(name, stream):
        told[name] = stream.read(MOST + 1)
        if len(told[name]) > MOST:
            process.kill()

    def write():
        try:
            process.stdin.write(feed.encode())
            process.stdin.close()
        except OSError:  # it does not read: its exit code tells
            pass

    threads = [
        threading.Thread(target=read, args=(name, getattr(process, name)), daemon=True) for name in ("stdout", "stderr")
    ]
    threads.append(threading.Thread(target=write, daemon=True))
    for one in threads:
        one.start()
    ends = time.monotonic() + PATIENCE
    for one in threads:
        one.join(max(0.0, ends - time.monotonic()))
    if any(len(some) > MOST for some in told.values()):
        over(f"kubectl {command[-2]} printed more than {MOST >> 20} MB, more than any object of the cluster has")
    try:
        code = process.wait(max(0.0, ends - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        over(f"kubectl {command[-2]} timed out after {PATIENCE} s")
    if code or len(told) < 2:
        over(told.get("stderr", b"").decode(errors="replace").strip()[-2000:])
    return told["stdout"].decode()


def over(why):
    tell(why)
    sys.exit(1)


def tell(text):
    """Print a line in UTF-8, whatever the locale is: with LC_ALL=C, Python 3.6 prints ASCII only."""
    sys.stdout.buffer.write((text + "\n").encode("utf-8", "replace"))
    sys.stdout.buffer.flush()


main(*sys.argv[1:])
