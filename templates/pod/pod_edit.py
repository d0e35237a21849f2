"""Edits of objects of the cluster, from a file: all of them or none, and only where they still say what was seen.

python3 pod_edit.py FILE NAMESPACE KUBECTL...: FILE is JSON, a list of {"object": "KIND/NAME", "at": [KEY, ...], "seen", "value"}.
A KEY {"name": NAME} picks from a list. null: no such key or entry; "*" in "seen": whatever. Exit code 3: something else is there.

Before these come edits of templates, which a Job renders: {"templates", "job", "result": NAMESPACE/NAME of the ConfigMap with
the templates, of the Job, and of the ConfigMap that the Job writes, "keys": {KEY: [SEEN, VALUE]}, "sets": {KEY: [NAME, BEFORE,
VALUE]}, "state": a folder of root's, "deadline": seconds, "after": a file}. "sets" says what a setting is in a file of the
result; other keys have the same text there as in the templates. The Job runs only where the result differs. A Job that fails
puts the former templates back. FILE.rendered says that something was done; with "after", nothing is done unless a file of that
name is beside FILE.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

PATIENCE = 60
"""Seconds of one call of kubectl, which has its own for each request."""
CHANGED = "was changed by somebody else since it was checked. Run the same command again."
MOST = 16 << 20
"""Bytes that one call may print: the API server takes no object of a tenth of that."""


def main(file, namespace, *kubectl):
    every = json.loads(pathlib.Path(file).read_text(encoding="utf-8"))
    rendered = []
    try:
        for change in [entry for entry in every if "templates" in entry]:
            if "after" not in change or pathlib.Path(file).with_name(change["after"]).exists():
                generator = Generator(change, kubectl, pathlib.Path(file + ".rendered"))
                rendered.append(generator)
                generator.change()
        edit_objects([entry for entry in every if "object" in entry], namespace, kubectl)
    except SystemExit:
        for generator in reversed(rendered):
            generator.undo()
        raise


def edit_objects(edits, namespace, kubectl):
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


def change(part, edit):
    *path, last = edit["at"]
    for key, following in zip(path, edit["at"][1:]):  # noqa: B905 - Python 3.6 has no strict; the last one has none after it
        if not isinstance(key, dict):
            part = part.setdefault(key, [] if isinstance(following, dict) else {})
        elif place(part, key) is None:
            changed_meanwhile(edit)
        else:
            part = part[place(part, key)]
    named = isinstance(last, dict)
    key = place(part, last) if named else last
    there = (None if key is None else part[key]) if named else part.get(key)
    if there == edit["value"]:
        return
    if edit["seen"] not in ("*", there):
        changed_meanwhile(edit)
    if edit["value"] is None:
        del part[key]
    elif named and key is None:
        part.append(edit["value"])
    else:
        part[key] = edit["value"]


def changed_meanwhile(edit):
    tell(f"{edit['object']} {CHANGED}")
    sys.exit(3)


def place(entries, key):
    """The number of the entry with that name; None where there is none."""
    return next((number for number, entry in enumerate(entries) if entry["name"] == key["name"]), None)


class Generator:
    """A change of templates, and the run of the Job that renders them."""

    def __init__(self, change, kubectl, mark):
        self.templates, self.job, self.result = change["templates"], change["job"], change["result"]
        self.keys, self.sets = change["keys"], change["sets"]
        self.state, self.deadline = pathlib.Path(change["state"]), change["deadline"]
        # the Job's manifest, from before it is deleted until it exists again
        self.saved = self.state / f"job.{self.job.replace('/', '.')}.json"
        self.kubectl, self.mark = kubectl, mark
        self.changed = {}
        self.ran = False

    def change(self):
        """Edit the templates; run the Job where its result differs. Ends where that fails: undo() is the caller's."""
        with self.lock():
            self.recreate()
            self.await_others()
            self.edit({key: (seen, value) for key, (seen, value) in self.keys.items()})
            if self.difference():
                self.note()
                self.ran = True
                self.run_job()

    def undo(self):
        """Put back what change() has changed, also in the result."""
        if not self.changed:
            return
        with self.lock():
            self.edit({key: (now, was) for key, (was, now) in self.changed.items()}, force=True)
            tell(f"ConfigMap {self.templates} has its former content")
            self.sets = {key: (name, after, before) for key, (name, before, after) in self.sets.items()}
            # a pod that could not start renders the former templates as soon as it can
            if self.ran:
                try:
                    self.run_job()
                except SystemExit:
                    tell("the Job also fails with the former templates, so this run's change is not the cause")

    @contextlib.contextmanager
    def lock(self):
        """Two controllers have the same templates: one change at a time."""
        with (self.state / "templates.lock").open("ab") as lock:
            ends = time.monotonic() + self.deadline
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if time.monotonic() > ends:
                        over("another change of these templates is running")
                    time.sleep(0.5)
            yield

    # --- the templates

    def edit(self, keys, force=False):
        """Change keys of the templates: {KEY: (seen, value)}. Another writer's change in between means: read them again."""
        while True:
            configmap = self.get("configmap", self.templates)
            if configmap is None:
                over(f"ConfigMap {self.templates} does not exist any more")
            data = configmap.get("data") or {}
            changed = {}
            for key, (seen, value) in keys.items():
                there = data.get(key)
                if there == value:
                    continue
                if seen not in ("*", there):
                    if force:
                        tell(f"{key} in ConfigMap {self.templates} was changed by somebody else and stays")
                        continue
                    tell(f"{key} in ConfigMap {self.templates} {CHANGED}")
                    sys.exit(3)
                changed[key] = (there, value)
                if value is None:
                    del data[key]
                else:
                    data[key] = value
            if not changed:
                return
            self.note()
            try:
                run([*self.kubectl, "replace", "--filename", "-"], json.dumps(dict(configmap, data=data)))
            except SystemExit:
                now = self.get("configmap", self.templates)
                if now and now["metadata"]["resourceVersion"] != configmap["metadata"]["resourceVersion"]:
                    continue  # another writer was faster
                raise
            self.changed.update(changed)
            tell(f"changed in ConfigMap {self.templates}: {', '.join(sorted(changed))}")
            return

    def difference(self):
        """How the result differs from what the templates say; "" where it fits."""
        result = self.get("configmap", self.result) or {}
        data, templates = result.get("data") or {}, self.get("configmap", self.templates)["data"]
        for key in self.keys:
            if key in self.sets:
                name, _, value = self.sets[key]
                if setting(data.get(key, ""), name) != value:
                    return f"{key} in ConfigMap {self.result} {'lacks' if value else 'has'} {name}"
            elif (data.get(key) or "").rstrip("\n") != (templates.get(key) or "").rstrip("\n"):
                return f"{key} in ConfigMap {self.result} differs from its template"
            elif (key in data) != (key in templates):
                return f"ConfigMap {self.result} {'has' if key in data else 'lacks'} {key}"
        return ""

    def note(self):
        self.mark.touch()

    # --- the Job

    def recreate(self):
        """Create the Job again where an interrupted run had deleted it."""
        if self.saved.exists():
            if self.get("job", self.job) is None:
                self.create()
            self.saved.unlink()

    def await_others(self):
        """A Job that somebody else has begun may have read the former templates: await its end."""
        job = self.get("job", self.job)
        if job is None:
            over(f"Job {self.job} does not exist any more")
        if not ending(job) and not job["spec"].get("suspend"):
            tell(f"waiting for the current run of Job {self.job}")
            self.await_end(job["metadata"]["uid"])

    def run_job(self):
        """Delete the Job and create it again, as CSM's documents say, and await its end. Ends with the reason where it fails."""
        job = self.get("job", self.job)
        if job is not None:
            part = self.saved.with_name(self.saved.name + ".part")
            with part.open("w", encoding="utf-8") as file:
                json.dump(without_the_servers(job), file)
                file.flush()
                os.fsync(file.fileno())
            part.rename(self.saved)
            space, short = self.job.split("/")
            uid = job["metadata"]["uid"]
            command = ["delete", "job", short, "--namespace", space, "--ignore-not-found", "--wait=false"]
            run([*self.kubectl, *command])
            self.gone(uid)
        tell(f"running Job {self.job}")
        uid = self.create()
        self.saved.unlink()
        began = time.monotonic()
        why = self.await_end(uid)
        why = why or self.difference()
        if why:
            over(f"Job {self.job}: {why}")
        tell(f"Job {self.job} has written ConfigMap {self.result} after {time.monotonic() - began:.0f} s")

    def create(self):
        """Create the saved Job; its uid. An operator may have been faster."""
        text = self.saved.read_text(encoding="utf-8")
        try:
            created = json.loads(run([*self.kubectl, "create", "--output", "json", "--filename", "-"], text))
        except SystemExit:
            created = self.get("job", self.job)
            if created is None:
                raise
        return created["metadata"]["uid"]

    def gone(self, uid):
        ends = time.monotonic() + self.deadline
        while True:
            job = self.get("job", self.job)
            if job is None or job["metadata"]["uid"] != uid:
                return
            if time.monotonic() > ends:
                over(f"Job {self.job} could not be deleted: its finalizers are {job['metadata'].get('finalizers')}")
            time.sleep(0.5)

    def await_end(self, uid):
        """Wait until the Job with this uid has ended: "" where it is complete, else why not."""
        ends = time.monotonic() + self.deadline
        while True:
            job = self.get("job", self.job)
            if job is None or job["metadata"]["uid"] != uid:
                return "somebody else has deleted it"
            pods = self.pods(uid)
            end = ending(job)
            if end and end["type"] == "Complete":
                return ""
            if end:
                self.last_words(pods)
                return f"{end.get('reason', 'failed')}: {end.get('message', '')}"
            stuck = next((why for why in map(waiting, pods) if why), "")
            if stuck:
                self.ran = False
                return stuck
            if time.monotonic() > ends:
                self.last_words(pods)
                self.ran = any(pod["status"].get("phase") == "Failed" for pod in pods)
                return f"it did not end within {self.deadline} s ({'; '.join(map(phase, pods)) or 'no pod'})"
            time.sleep(1.0)

    def pods(self, uid):
        space = self.job.split("/")[0]
        command = ["get", "pods", "--namespace", space, "--selector", f"controller-uid={uid}", "--output", "json"]
        return json.loads(run([*self.kubectl, *command]))["items"]

    def last_words(self, pods):
        """The last lines that the newest pod of the Job has printed."""
        if pods:
            newest = max(pods, key=lambda pod: pod["metadata"]["creationTimestamp"])["metadata"]
            command = ["logs", newest["name"], "--namespace", newest["namespace"], "--all-containers", "--tail", "8"]
            with contextlib.suppress(SystemExit):
                for line in run([*self.kubectl, *command, "--limit-bytes", "100000"]).splitlines()[-8:]:
                    tell(f"  {line[:300]}")

    def get(self, kind, name):
        """An object; None where it does not exist."""
        space, short = name.split("/")
        command = ["get", kind, short, "--namespace", space, "--ignore-not-found", "--output", "json"]
        text = run([*self.kubectl, *command])
        return json.loads(text) if text.strip() else None


def ending(job):
    """The condition that says how a Job has ended; None where it has not."""
    conditions = (job.get("status") or {}).get("conditions") or ()
    ends = (end for end in conditions if end["type"] in ("Complete", "Failed") and end["status"] == "True")
    return next(ends, None)


STUCK = ("ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError")


def waiting(pod):
    """Why a container of a pod cannot start; "" where it may."""
    for status in pod["status"].get("containerStatuses") or ():
        why = (status.get("state") or {}).get("waiting") or {}
        if why.get("reason") in STUCK:
            return f"{why['reason']}: {why.get('message', '')}"
    return ""


def phase(pod):
    """A pod and how far it is, in words."""
    conditions = pod["status"].get("conditions") or ()
    reasons = (condition.get("message", "") for condition in conditions if condition["status"] == "False")
    why = next(filter(None, reasons), "")
    return " ".join(filter(None, ("pod", pod["metadata"]["name"], pod["status"].get("phase", ""), why)))


def without_the_servers(job):
    """A Job as it was sent to the API server, so that it can be created again."""
    meta, spec = job["metadata"], dict(job["spec"])
    kept = {key: meta[key] for key in ("name", "namespace", "labels", "annotations", "ownerReferences") if key in meta}
    template = dict(spec["template"])
    if not spec.get("manualSelector"):
        spec.pop("selector", None)
    filled = ("controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name")
    inner = {key: value for key, value in (template.get("metadata") or {}).items() if key != "creationTimestamp"}
    inner["labels"] = {key: value for key, value in (inner.get("labels") or {}).items() if key not in filled}
    kept["labels"] = {key: value for key, value in (kept.get("labels") or {}).items() if key not in filled}
    spec["template"] = dict(template, metadata=inner)
    return {"apiVersion": job["apiVersion"], "kind": job["kind"], "metadata": kept, "spec": spec}


def setting(text, name):
    """The value of a setting of slurm.conf, as Slurm has it: the last line counts; None where it isn't set.

    dws_on_csm/domain/slurm_conf.py reads slurm.conf, and its text is not for this Python. This function reads only what the Job has
    made of lines that dws_on_csm wrote: it knows no escaped "#" and no continued line.
    """
    values = [None]
    for line in text.split("\n"):
        key, equals, value = line.partition("#")[0].partition("=")
        if equals and key.strip().lower() == name.lower():
            values.append(value.strip().strip('"'))
    return values[-1]


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
    for thread in threads:
        thread.start()
    ends = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0.0, ends - time.monotonic()))
    if any(len(output) > MOST for output in told.values()):
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
