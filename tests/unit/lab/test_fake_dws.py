import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import upstream_fakes
from tests.unit import loopback_cluster
from tests.unit.loopback_cluster import Cluster

pytestmark = pytest.mark.slow

PLUGIN = upstream_fakes.UPSTREAM / "dws-slurm-bb-plugin/src/burst_buffer/burst_buffer.lua"
STATES = ("Proposal", "Setup", "DataIn", "PreRun", "PostRun", "DataOut", "Teardown")

# What slurmctld gives to Lua, and a call of the hook that the arguments name; prints what it returned.
SLURMCTLD = """
slurm = {SUCCESS = 0, ERROR = -1}
function slurm.log_info(form, ...) io.stderr:write("info: ", form:format(...), "\\n") end
function slurm.log_error(form, ...) io.stderr:write("error: ", form:format(...), "\\n") end
dofile(arg[1])
local words = {table.unpack(arg, 3)}
if arg[2] == "slurm_bb_job_process" then words[4] = {job_id = words[4]} end
print(_G[arg[2]](table.unpack(words)))
"""

RULE = """
apiVersion: dataworkflowservices.github.io/v1alpha2
kind: DWDirectiveRule
metadata: {name: tape, namespace: dws-system}
spec:
- command: tape
  watchStates: Proposal,Setup
  ruleDefs: [{key: "^reel$", type: integer, min: 1, max: 9, isRequired: true}]
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with loopback_cluster.running(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
def tape(cluster: Cluster) -> Iterator[None]:
    """A rule whose driver takes part in Proposal and Setup of a Workflow with `#DW tape reel=N`."""
    assert cluster.kubectl("apply", "-f", "-", stdin=RULE).returncode == 0
    cluster.kubectl("wait", "dwdirectiverule/tape", "-n", "dws-system", "--for=create", "--timeout=60s")
    yield
    cluster.kubectl("delete", "-n", "dws-system", "dwdirectiverule", "tape")


def driver_says(cluster: Cluster, name: str, index: int, **fields: object) -> subprocess.CompletedProcess[str]:
    """What a driver writes into its entry of status.drivers."""
    at = f"/status/drivers/{index}/"
    changes = [{"op": "add", "path": at + key, "value": value} for key, value in fields.items()]
    return cluster.kubectl("patch", "workflow", name, "--type=json", "-p", json.dumps(changes))


def create(cluster: Cluster, name: str, directives: str = "", **spec: str) -> subprocess.CompletedProcess[str]:
    fields = {"desiredState": "Proposal", "wlmID": "slurm", "jobID": '"1"', "userID": "1000", "groupID": "1000", **spec}
    body = ", ".join(f"{key}: {value}" for key, value in fields.items())
    manifest = f"""
apiVersion: dataworkflowservices.github.io/v1alpha2
kind: Workflow
metadata: {{name: {name}}}
spec: {{{body}, dwDirectives: [{directives}]}}
"""
    return cluster.kubectl("apply", "-f", "-", stdin=manifest, user="slurm-dws")


def patch(cluster: Cluster, name: str, spec: str) -> subprocess.CompletedProcess[str]:
    words = ("patch", "workflow", name, "--type=merge", "-p", f'{{"spec":{{{spec}}}}}')
    return cluster.kubectl(*words, user="slurm-dws")


def hook(cluster: Cluster, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Calls a hook of the plugin in Lua 5.4, with the cluster's kubeconfig in the place of the one in /etc/slurm."""
    lua = shutil.which("lua5.4")
    assert lua, "lua5.4 is needed: apt-get install lua5.4"
    tools = cluster.folder / "tools"
    tools.mkdir(exist_ok=True)
    kubectl = tools / "kubectl"
    kubectl.write_text(f"""#!/bin/sh
[ "$1 $2" = "--kubeconfig /etc/slurm/slurm-dws.kubeconfig" ] || exit 9
shift 2
exec {cluster.folder}/bin/kubectl --kubeconfig={cluster.folder}/slurm-dws "$@"
""")
    kubectl.chmod(0o755)
    (tools / "slurmctld.lua").write_text(SLURMCTLD)
    own = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(cluster.folder)}
    command = [lua, str(tools / "slurmctld.lua"), str(PLUGIN), name, *words]
    return subprocess.run(command, env=own, capture_output=True, text=True, timeout=100)


def submit(cluster: Cluster, folder: Path, job: str, directive: str) -> subprocess.CompletedProcess[str]:
    script = folder / "script"
    script.write_text(f"#!/bin/sh\n{directive}\nhostname\n")
    return hook(cluster, "slurm_bb_job_process", str(script), "1000", "100", job)


def test_a_workflow_walks_through_its_states(cluster: Cluster) -> None:
    """Each next desired state is reached and completed, and a deleted Workflow goes with its Computes."""
    assert create(cluster, "walk").returncode == 0
    for state in STATES:
        assert patch(cluster, "walk", f'"desiredState":"{state}"').returncode == 0
        seen = cluster.until("walk", state, "Completed")
        assert seen["status"]["ready"] is True
    assert seen["metadata"]["finalizers"] == ["dataworkflowservices.github.io/workflow"]
    assert {"desiredStateChange", "readyChange", "elapsedTimeLastState", "env", "computes"} <= set(seen["status"])
    assert cluster.kubectl("get", "computes", "walk").returncode == 0
    assert cluster.kubectl("delete", "workflow", "walk", user="slurm-dws").returncode == 0
    gone = cluster.kubectl("get", "computes", "walk", "--ignore-not-found")
    assert (gone.returncode, gone.stdout) == (0, "")


def test_columns_are_those_of_the_procedure(cluster: Cluster) -> None:
    """kubectl get workflows prints NAME STATE READY STATUS JOBID AGE."""
    assert create(cluster, "columns").returncode == 0
    cluster.until("columns", "Proposal", "Completed")
    head, row = cluster.kubectl("get", "workflows", "columns").stdout.splitlines()
    assert head.split() == ["NAME", "STATE", "READY", "STATUS", "JOBID", "AGE"]
    assert row.split()[:5] == ["columns", "Proposal", "true", "Completed", "1"]


@pytest.mark.parametrize(
    ("name", "directives", "spec", "reason"),
    [
        ("late", "", {"desiredState": "Setup"}, "Spec.DesiredState"),
        ("hasty", "", {"hurry": "true"}, "Spec.Hurry"),
        ("ruled", '"#DW jobdw"', {}, "unable to find ruleset in namespace: dws-system"),
        ("odd", "", {"desiredState": "Sideways"}, "Unsupported value"),
    ],
)
def test_creation_is_refused(cluster: Cluster, name: str, directives: str, spec: dict[str, str], reason: str) -> None:
    """A Workflow that starts elsewhere, in a hurry, or with directives that no rule knows is not created."""
    done = create(cluster, name, directives, **spec)
    assert done.returncode == 1
    assert reason in done.stderr


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ('"desiredState":"DataIn"', "Spec.DesiredState"),
        ('"hurry":true', "Spec.Hurry"),
        ('"userID":7', "Spec.UserID: Forbidden"),
        ('"dwDirectives":["#DW x"]', "Spec.DWDirectives: Forbidden"),
    ],
)
def test_change_is_refused(cluster: Cluster, spec: str, reason: str) -> None:
    """No state is skipped, hurry is for Teardown alone, and who asked for what stays as it was created."""
    assert create(cluster, "fixed").returncode == 0
    cluster.until("fixed", "Proposal", "Completed")
    done = patch(cluster, "fixed", spec)
    assert done.returncode == 1
    assert reason in done.stderr


def test_drivers_of_a_rule_hold_as_they_do_upstream(cluster: Cluster, tape: None) -> None:
    """A directive that a rule knows registers its driver, and a state is reached once that driver has completed it."""
    assert "'^reel$'" in create(cluster, "wrong", '"#DW tape"').stderr
    assert create(cluster, "driven", '"#DW tape reel=3"').returncode == 0
    status = cluster.until("driven", "Proposal", "DriverWait")["status"]
    assert [(d["driverID"], d["watchState"]) for d in status["drivers"]] == [("tape", "Proposal"), ("tape", "Setup")]
    assert status["ready"] is False
    assert "Status.State" in patch(cluster, "driven", '"desiredState":"Setup"').stderr
    done = {"completed": True, "status": "Completed"}
    assert "Status.Drivers[1]" in driver_says(cluster, "driven", 1, **done).stderr
    assert driver_says(cluster, "driven", 0, message="for a test").returncode == 0
    assert driver_says(cluster, "driven", 0, **done).returncode == 0
    seen = cluster.until("driven", "Proposal", "Completed")
    assert seen["status"]["message"] == "DW Directive 0: for a test"


def test_teardown_ends_a_wait_in_an_earlier_state(cluster: Cluster, tape: None) -> None:
    """A Workflow that waits for a driver goes to Teardown in a hurry at any time."""
    assert create(cluster, "bb77", '"#DW tape reel=3"').returncode == 0
    cluster.until("bb77", "Proposal", "DriverWait")
    assert patch(cluster, "bb77", '"desiredState":"Teardown","hurry":true').returncode == 0
    assert cluster.until("bb77", "Teardown", "Completed")["spec"]["hurry"] is True


@pytest.mark.parametrize("state", ["Proposal", "Setup"])
def test_a_driver_joins_no_existing_workflow(cluster: Cluster, state: str) -> None:
    """Drivers are registered by rules when a Workflow is created; one that is added later is refused in any state."""
    name = f"late-{state.lower()}"
    assert create(cluster, name).returncode == 0
    cluster.until(name, "Proposal", "Completed")
    entry = f'{{"driverID":"tape","taskID":"","dwdIndex":0,"lastHB":0,"completed":false,"watchState":"{state}"}}'
    done = cluster.kubectl("patch", "workflow", name, "--type=merge", "-p", f'{{"status":{{"drivers":[{entry}]}}}}')
    assert done.returncode == 1
    assert "Status.Drivers[0]" in done.stderr


def test_v1alpha1_is_served_too(cluster: Cluster) -> None:
    """A Workflow can be read as v1alpha1, where its jobID is a number, and written back without losing its text."""
    assert create(cluster, "older").returncode == 0
    cluster.until("older", "Proposal", "Completed")
    older = "workflows.v1alpha1.dataworkflowservices.github.io"
    assert cluster.kubectl("get", older, "older", "-o", "jsonpath={.spec.jobID}").stdout == "1"
    assert cluster.kubectl("label", older, "older", "seen=yes").returncode == 0
    again = cluster.workflow("older")
    assert again["spec"]["jobID"] == "1"
    assert "dataworkflowservices.github.io/conversion-data" not in again["metadata"]["annotations"]


def test_the_plugin_takes_a_job_through_its_workflow(cluster: Cluster, tmp_path: Path) -> None:
    """Slurm's hooks, called in order with a bare #DW, create bb12, take it through every state and delete it."""
    done = submit(cluster, tmp_path, "12", "#DW")
    assert done.stdout.startswith("0\t#!/bin/sh"), done.stderr
    assert "kind: Workflow" in done.stderr
    seen = cluster.workflow("bb12")
    assert seen["metadata"]["labels"] == {"origin": "burst_buffer.lua"}
    assert (seen["spec"]["jobID"], seen["spec"]["userID"], seen["spec"]["dwDirectives"]) == ("12", 1000, [])
    assert hook(cluster, "slurm_bb_setup", "12", "1000", "100", "", "0", "s").stdout == "0\n"
    assert hook(cluster, "slurm_bb_data_in", "12", "s", "1000", "100").stdout == "0\n"
    for name in ("pre_run", "post_run", "data_out"):
        assert hook(cluster, f"slurm_bb_{name}", "12", "s", "1000", "100").stdout == "0\tSuccess\n"
    status = hook(cluster, "slurm_bb_get_status", "0", "0", "workflow", "12").stdout
    assert status == "0\tdesiredState=DataOut currentState=DataOut status=Completed\n"
    assert hook(cluster, "slurm_bb_job_teardown", "12", "s", "false", "1000", "100").stdout.startswith("0")
    assert "not found" in cluster.kubectl("get", "workflow", "bb12").stderr
    assert hook(cluster, "slurm_bb_job_teardown", "12", "s", "false", "1000", "100").stdout.startswith("0")


def test_a_refused_workflow_refuses_the_job(cluster: Cluster, tmp_path: Path) -> None:
    """sbatch gets the API server's own words when a directive has no rule, and no Workflow is left."""
    done = submit(cluster, tmp_path, "13", "#DW jobdw name=x")
    assert done.stdout.startswith("-1")
    assert "unable to find ruleset in namespace: dws-system" in done.stdout
    assert "not found" in cluster.kubectl("get", "workflow", "bb13").stderr


def test_a_double_quote_in_a_directive_refuses_the_job(cluster: Cluster, tmp_path: Path) -> None:
    """As with the real plugin, a #DW line with a double quote is refused, with kubectl's message about the YAML."""
    done = submit(cluster, tmp_path, "15", '#DW jobdw name="x"')
    assert done.stdout.startswith("-1")
    assert "yaml" in done.stdout


def test_the_plugin_reports_a_failed_driver(cluster: Cluster, tmp_path: Path, tape: None) -> None:
    """A driver's error ends the hook with that error, and the teardown asks Slurm to cancel the job in a hurry."""
    assert submit(cluster, tmp_path, "14", "#DW tape reel=3").stdout.startswith("0")
    cluster.until("bb14", "Proposal", "DriverWait")
    assert driver_says(cluster, "bb14", 0, status="Error", error="no tape left").returncode == 0
    done = hook(cluster, "slurm_bb_setup", "14", "1000", "100", "", "0", "s")
    assert done.stdout.startswith("-1")
    assert "tape: no tape left" in done.stdout
    (cluster.folder / "tools/scancel").write_text(f"#!/bin/sh\necho $* > {tmp_path}/cancelled\n")
    (cluster.folder / "tools/scancel").chmod(0o755)
    hook(cluster, "slurm_bb_job_teardown", "14", "s", "true", "1000", "100")
    assert (tmp_path / "cancelled").read_text() == "--hurry 14\n"


def test_hooks_are_those_of_the_true_plugin() -> None:
    """The plugin has the hooks that Slurm 23.02 asks for, but not the two additional hooks of 24.05."""
    early = ["job_process", "pools", "setup", "data_in", "real_size", "paths", "pre_run"]
    late = ["post_run", "data_out", "job_teardown", "get_status"]
    found = re.findall(r"^function slurm_bb_(\w+)", PLUGIN.read_text(), re.MULTILINE)
    assert sorted(found) == sorted(early + late)
