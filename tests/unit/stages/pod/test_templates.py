"""Templates that a Job renders: they are edited, the Job runs where its result differs, and a Job that fails changes nothing.

kubectl is a fake that keeps objects in one file, and runs a Job when it is created. The program on the master is real.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.config.load import load
from dws_on_csm.model import render
from dws_on_csm.model.actions import Action
from dws_on_csm.model.snapshot import ObjectSnapshot, objects_and_templates
from dws_on_csm.model.step import Facts, StepContext
from dws_on_csm.stages.pod import discover, generated, templates
from dws_on_csm.stages.pod.generated import Generated
from tests.unit.site_files import write

pytestmark = pytest.mark.slow

# "how": what becomes of the next runs of the Job, one word each; at last it completes.
KUBECTL = """#!{python} -IS
import json, pathlib, sys
words, file = sys.argv[1:], pathlib.Path({folder!r}) / "objects"
there = json.loads(file.read_text())
space = words[words.index("--namespace") + 1] if "--namespace" in words else ""
verb = words[0]

def finish():
    file.write_text(json.dumps(there))

if verb == "get" and words[1] == "pods":
    print(json.dumps(dict(items=there.get("pods", []))))
elif verb == "get":
    found = there.get(f"{{words[1]}} {{space}}/{{words[2]}}")
    print(json.dumps(found) if found else "")
elif verb == "logs":
    print("template slurm.conf: unknown placeholder")
elif verb == "delete":
    there.pop(f"job {{space}}/{{words[2]}}", None)
    finish()
else:
    made = json.load(sys.stdin)
    meta = made["metadata"]
    name = f"{{made['kind'].lower()}} {{meta['namespace']}}/{{meta['name']}}"
    if verb == "replace":
        if there.pop("conflict", None):
            there[name]["metadata"]["resourceVersion"] = "other"
            finish()
            sys.exit("the object has been modified")
        meta["resourceVersion"] += "1"
    else:
        assert name not in there and "uid" not in meta and "status" not in made and "selector" not in made["spec"]
        there["runs"] = there.get("runs", 0) + 1
        meta["uid"] = f"u{{there['runs']}}"
        how = there["how"].pop(0) if there.get("how") else "completes"
        state = dict(phase="Failed")
        if how == "completes":
            made["status"] = dict(conditions=[dict(type="Complete", status="True")])
            data = there["configmap services/templates"]["data"]
            rendered = {{key: text.replace("{{{{ nodes }}}}", "nid1") for key, text in data.items()}}
            there["configmap user/slurm-conf"]["data"] = rendered
        elif how == "fails":
            failed = dict(type="Failed", status="True", reason="BackoffLimitExceeded", message="too often")
            made["status"] = dict(conditions=[failed])
        else:
            why = dict(reason="ImagePullBackOff", message="no such image")
            state = dict(phase="Pending", containerStatuses=[dict(state=dict(waiting=why))])
        meta_of_pod = dict(name="p", namespace="services", creationTimestamp="1")
        there["pods"] = [dict(metadata=meta_of_pod, status=state)]
        print(json.dumps(made))
    there[name] = made
    finish()
"""

SOURCE: Generated = {
    "templates": "services/templates",
    "job": "services/render",
    "result": "user/slurm-conf",
    "slurm_conf": None,
}
CONF = "ClusterName=c\nNodeName={{ nodes }}\n"
LINE = "BurstBufferType=burst_buffer/lua\n"
SETS = {"slurm.conf": ("BurstBufferType", None, "burst_buffer/lua")}


def a_job() -> dict[str, Any]:
    """A Job that has run, with what the API server filled in."""
    labels = {"controller-uid": "u0", "job-name": "render", "app": "slurm"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "render", "namespace": "services", "uid": "u0", "labels": {"chart": "x"}},
        "spec": {
            "selector": {"matchLabels": {"controller-uid": "u0"}},
            "template": {"metadata": {"labels": labels, "creationTimestamp": None}, "spec": {"containers": []}},
        },
        "status": {"conditions": [{"type": "Complete", "status": "True"}]},
    }


def a_config_map(name: str, data: Mapping[str, str]) -> dict[str, Any]:
    """A ConfigMap NAMESPACE/NAME."""
    space, short = name.split("/")
    return {"kind": "ConfigMap", "metadata": {"name": short, "namespace": space, "resourceVersion": "1"}, "data": data}


@dataclass
class Site:
    """Templates, their Job, its result, and the program that edits them."""

    folder: Path

    def __post_init__(self) -> None:
        self.program = self.folder / "kubectl"
        self.program.write_text(KUBECTL.format(python=sys.executable, folder=str(self.folder)))
        self.program.chmod(0o755)
        self.file = self.folder / "objects"
        self.put(
            {
                "configmap services/templates": a_config_map("services/templates", {"slurm.conf": CONF}),
                "configmap user/slurm-conf": a_config_map("user/slurm-conf", {"slurm.conf": "ClusterName=c\n"}),
                "job services/render": a_job(),
            }
        )

    def objects(self) -> dict[str, Any]:
        """All objects."""
        there: dict[str, Any] = json.loads(self.file.read_text())
        return there

    def put(self, objects: Mapping[str, Any]) -> None:
        """Keep these."""
        self.file.write_text(json.dumps(objects))

    def change(self, **more: Any) -> None:
        """Add objects, or say how Jobs end."""
        self.put(self.objects() | more)

    def data(self, name: str) -> dict[str, str]:
        """The keys of a ConfigMap."""
        data: dict[str, str] = self.objects()[f"configmap {name}"]["data"]
        return data

    def runs(self) -> int:
        """How often the Job has run."""
        return int(self.objects().get("runs", 0))

    def edit(self, *edits: Mapping[str, Any], name: str = "next") -> tuple[int, str]:
        """Make edits: the exit code, and what was said."""
        file = self.folder / name
        file.write_text(json.dumps([{**edit, "state": str(self.folder)} for edit in edits]))
        command = [
            sys.executable,
            "-IS",
            str(render.TEMPLATES / "pod/pod_edit.py"),
            str(file),
            "user",
            str(self.program),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert not done.stderr
        return done.returncode, done.stdout


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site whose Job has rendered its templates."""
    return Site(tmp_path)


def edit(keys: Mapping[str, tuple[str | None, str | None]], deadline: float = 5) -> dict[str, Any]:
    """An edit of the templates; with a slurm.conf, of the burst buffer in it."""
    return generated.edit(SOURCE, keys, SETS if "slurm.conf" in keys else {}, deadline)


ENABLE = edit({"slurm.conf": (CONF, CONF + LINE)})
LUA = edit({"burst_buffer.lua": ("*", "-- lua\n")})


def test_a_key_is_written_and_rendered(site: Site) -> None:
    """The templates have it, and after the Job the result too; placeholders stay in the one, and are replaced in the other."""
    code, said = site.edit(ENABLE, LUA)
    assert code == 0, said
    assert site.data("services/templates") == {"slurm.conf": CONF + LINE, "burst_buffer.lua": "-- lua\n"}
    assert site.data("user/slurm-conf")["slurm.conf"] == "ClusterName=c\nNodeName=nid1\n" + LINE
    job = site.objects()["job services/render"]
    assert job["spec"]["template"]["metadata"] == {"labels": {"app": "slurm"}} and job["metadata"]["labels"] == {
        "chart": "x"
    }
    assert not list(site.folder.glob("job.*"))


def test_nothing_runs_where_the_result_fits(site: Site) -> None:
    """The second controller has the same templates; a change that is there already is none."""
    site.edit(LUA)
    assert (site.edit(LUA)[0], site.runs()) == (0, 1)


@pytest.mark.parametrize("where", ["services/templates", "user/slurm-conf"])
def test_what_somebody_changed_since_is_corrected(site: Site, where: str) -> None:
    """In the templates, without a run where the result still fits; in the result, by a run."""
    site.edit(LUA)
    there = site.objects()
    there[f"configmap {where}"]["data"]["burst_buffer.lua"] = "other"
    site.put(there)
    assert site.edit(LUA)[0] == 0
    assert site.data(where)["burst_buffer.lua"] == "-- lua\n" and site.runs() == (2 if where.startswith("user") else 1)


def test_a_job_that_fails_puts_the_templates_back(site: Site) -> None:
    """Its reason and last lines are shown; it runs once more, with the former templates."""
    site.change(how=["fails"])
    code, said = site.edit(ENABLE)
    assert code == 1 and site.data("services/templates") == {"slurm.conf": CONF} and site.runs() == 2
    for words in (
        "Job services/render: BackoffLimitExceeded: too often",
        "unknown placeholder",
        "has its former content",
    ):
        assert words in said
    assert "not the cause" not in said


def test_a_job_that_fails_with_the_former_templates_too_is_said(site: Site) -> None:
    """Then the change is not the cause."""
    site.change(how=["fails", "fails"])
    code, said = site.edit(ENABLE)
    assert (
        code == 1
        and "so this run's change is not the cause" in said
        and site.data("services/templates") == {"slurm.conf": CONF}
    )


def test_a_job_that_cannot_start_is_left(site: Site) -> None:
    """It will render the former templates when its image can be pulled."""
    site.change(how=["waits"])
    code, said = site.edit(ENABLE)
    assert code == 1 and "ImagePullBackOff: no such image" in said and site.runs() == 1
    assert site.data("services/templates") == {"slurm.conf": CONF}


def test_templates_that_were_changed_meanwhile_stay(site: Site) -> None:
    """Nothing is done, and nothing put back."""
    code, said = site.edit(edit({"slurm.conf": ("what was seen", "x")}))
    assert code == 3 and "was changed by somebody else" in said and site.runs() == 0


def test_another_writer_in_between_is_no_failure(site: Site) -> None:
    """Its change of the object is kept."""
    site.change(conflict=True)
    assert site.edit(ENABLE)[0] == 0
    assert site.data("services/templates") == {"slurm.conf": CONF + LINE}


def test_only_what_was_done_is_undone(site: Site) -> None:
    """A transaction whose templates were as wanted leaves them: the other controller runs with them."""
    back = generated.reversed_edit(ENABLE, "next")
    assert site.edit(ENABLE)[0] == 0
    (site.folder / "next.rendered").unlink()
    assert site.edit(ENABLE)[0] == 0 and site.edit(back, name="back")[0] == 0
    assert site.data("services/templates") == {"slurm.conf": CONF + LINE}
    (site.folder / "next.rendered").touch()
    assert site.edit(back, name="back")[0] == 0
    assert (
        site.data("services/templates") == {"slurm.conf": CONF}
        and LINE not in site.data("user/slurm-conf")["slurm.conf"]
    )


def test_a_job_that_an_interrupted_run_had_deleted_is_created_again(site: Site) -> None:
    """Its manifest lies on the master until it exists again."""
    there = site.objects()
    job = there.pop("job services/render")
    site.put(there)
    spec = {key: value for key, value in job["spec"].items() if key != "selector"}
    manifest = {**job, "metadata": {"name": "render", "namespace": "services"}, "spec": spec}
    manifest.pop("status")
    (site.folder / "job.services.render.json").write_text(json.dumps(manifest))
    assert site.edit(edit({}))[0] == 0
    assert "job services/render" in site.objects() and not list(site.folder.glob("job.*"))


def test_a_later_edit_that_fails_takes_the_templates_back(site: Site) -> None:
    """All edits or none: the Deployment is missing."""
    restart = {"object": "deployment/gone", "at": ["x"], "seen": "*", "value": "1"}
    code, _ = site.edit(ENABLE, restart)
    assert code == 1 and site.data("services/templates") == {"slurm.conf": CONF} and site.runs() == 2


# --- the step, and a rollback


def looked(tmp_path: Path, templates_data: Mapping[str, str], result: Mapping[str, str]) -> StepContext:
    """A controller in a pod whose files are generated, after the look of the step."""
    site_file = load(write(tmp_path, "master: {host: m}\ncontrollers: [{pod: {}}]\n"))
    config_map = {"name": "slurm-conf", "path": "", "manager": "", "immutable": False, "generated": SOURCE}
    seen = {"templates": dict(templates_data), "result": dict(result)}
    facts = Facts({discover.FACT.name: {"slurmctld": {"pod": "p", "config_map": config_map}}})
    facts.found[templates.PLUGIN.name] = {"slurmctld": seen}
    return StepContext(site_file, facts, "slurmctld")


WANTED = {"burst_buffer.lua": "-- lua\n", "burst_buffer.conf": None}


@pytest.mark.parametrize(
    ("data", "result", "changes"),
    [
        (
            {"burst_buffer.lua": "-- lua\n"},
            {"burst_buffer.lua": "-- lua"},
            {},
        ),  # an engine may drop the end of the last line
        ({}, {"burst_buffer.lua": "-- lua\n"}, {"burst_buffer.lua": "-- lua\n"}),
        ({"burst_buffer.lua": "-- lua\n"}, {"burst_buffer.lua": "by hand"}, {"burst_buffer.lua": "-- lua\n"}),
        ({"burst_buffer.lua": "-- lua\n"}, {}, {"burst_buffer.lua": "-- lua\n"}),
        (WANTED | {"burst_buffer.conf": "x"}, {"burst_buffer.lua": "-- lua\n"}, {"burst_buffer.conf": None}),
        ({"burst_buffer.lua": "-- lua\n"}, WANTED | {"burst_buffer.conf": "x"}, {"burst_buffer.conf": None}),
    ],
)
def test_the_step_finds_what_differs_and_changes_that_alone(
    tmp_path: Path, data: Mapping[str, str], result: Mapping[str, str], changes: Mapping[str, str | None]
) -> None:
    """In the templates or in the result."""
    asked: list[Mapping[str, str | None]] = []

    def change(ctx: StepContext, keys: Mapping[str, str | None]) -> list[Action]:
        asked.append(keys)
        return []

    step = templates.step(templates.PLUGIN, lambda ctx: WANTED, change)
    ctx = looked(tmp_path, data, result)
    have, want = step.have(ctx, ctx.facts.on(templates.PLUGIN, ctx.host)), step.want(ctx)
    assert (have == want) == (not changes)
    assert step.change is not None
    step.change(ctx, have, want)
    assert asked == [changes]


def test_a_plan_names_the_templates(tmp_path: Path) -> None:
    """What people edit, not the result that a Job writes."""
    action = templates.write(looked(tmp_path, {}, {}), SOURCE, {"burst_buffer.lua": "-- lua\n"})
    assert "in ConfigMap services/templates; run Job services/render" in action.title
    assert action.objects[:2] == (
        "/api/v1/namespaces/services/configmaps/templates",
        "/apis/batch/v1/namespaces/services/jobs/render",
    )


def test_a_rollback_restores_templates_not_what_they_become() -> None:
    """The Job and its result are left to a run of the Job."""

    def a_snapshot(path: str, **data: str) -> ObjectSnapshot:
        return ObjectSnapshot(path, {"data": data} if data else {}, frozenset())

    source = a_snapshot("/api/v1/namespaces/services/configmaps/templates", **{"slurm.conf": CONF})
    result = a_snapshot("/api/v1/namespaces/user/configmaps/slurm-conf", **{"slurm.conf": "x"})
    job = a_snapshot("/apis/batch/v1/namespaces/services/jobs/render")
    deployment = a_snapshot("/apis/apps/v1/namespaces/user/deployments/slurmctld")
    assert objects_and_templates([source, job, result, deployment]) == ([deployment], [source])
    assert objects_and_templates([result, deployment]) == ([result, deployment], [])
