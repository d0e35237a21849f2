"""The stages of a repair on one host: the host, the stage or step, and what must be correct before."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dws_on_csm.commands.look import brief
from dws_on_csm.commands.repair import chosen
from dws_on_csm.config.load import ROOT, load
from dws_on_csm.config.site import HostsError, Site
from dws_on_csm.model.secret import Secret
from dws_on_csm.model.step import Check, Facts, Finding, Refused, Stage, Step, StepContext
from dws_on_csm.runner.read_only import only
from dws_on_csm.stages.install import STAGES
from dws_on_csm.stages.preflight import repair_needs
from tests.unit.site_files import write

SITE = """
master: {host: ncn-m001}
controllers: [{host: 'slurmctl[1-2]'}]
computes: [{hosts: 'nid[000001-000002]', may_be_down: 1}, {hosts: nid000003}]
"""
MASTER, PRIMARY, NODE = "ncn-m001", "slurmctl1", "nid000001"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with two controllers and two groups of nodes."""
    return load(write(tmp_path, SITE))


def test_a_repair_connects_its_host_and_those_that_it_needs(site: Site) -> None:
    """Only the master, the controllers and the named node are connected."""
    names = [host.name for host in only(site, PRIMARY).hosts()]
    assert names == [MASTER, PRIMARY, "slurmctl2"]
    assert [host.name for host in only(site, NODE).hosts()] == [*names, NODE]
    assert only(site, NODE).computes[0].may_be_down == 0
    assert [name for name in names if only(site, PRIMARY).active(name)] == [PRIMARY]


@pytest.mark.parametrize("name", ["slurmctl9", "slurmctl[1-2]", "root@slurmctl1"])
def test_a_host_that_is_not_in_the_site_file_is_refused(site: Site, name: str) -> None:
    """It is one name of the site file, and nothing else."""
    with pytest.raises(HostsError, match="not a host of"):
        only(site, name)


def test_a_stage_or_step_is_chosen_with_the_preflight(site: Site) -> None:
    """`plugin` is the whole stage, `plugin.lua` that step alone; the preflight comes before either. The checks of DWS's
    removal run where that is chosen."""
    stages = {stage.name: stage for stage in STAGES}
    first, plugin = chosen(only(site, PRIMARY), STAGES, "plugin")
    guards = {"jobs", "workflows", "storage", "limit", "stuck", "owned", "other-slurms"}
    spared = {*guards, "registry"}
    assert [one.name for one in first.steps[:-1]] == [
        one.name for one in stages["preflight"].steps if one.name not in spared
    ]
    removal, _ = chosen(only(site, MASTER), STAGES, "replace")
    assert guards < {one.name for one in removal.steps}
    assert [one.name for one in removal.steps[:-1]] == [one.name for one in stages["preflight"].steps]
    assert plugin == stages["plugin"]
    assert [item.name for item in chosen(only(site, PRIMARY), STAGES, "plugin.lua")[1].steps] == ["lua"]


def test_what_is_wrong_elsewhere_does_not_refuse_a_repair(site: Site) -> None:
    """Another controller, the registry, too few workers: a file on this controller needs none of them."""
    every = Check("trial", "controller", lambda ctx: None, lambda ctx, have: [Finding("munge-down", "x", "y")])  # type: ignore[arg-type, return-value]
    here, there = (StepContext(only(site, PRIMARY), Facts({}), host) for host in (PRIMARY, "slurmctl2"))
    check = repair_needs.relevant(every, deploys=False)
    assert isinstance(check, Check) and len(check.judge(here, None)) == 1 and check.judge(there, None) == ()
    workers = replace(every, role="master", judge=lambda ctx, have: [Finding("workers-few", "x", "y")])
    for deploys in (False, True):
        check = repair_needs.relevant(workers, deploys)
        assert isinstance(check, Check) and len(check.judge(here, None)) == deploys


def test_what_guards_a_stage_guards_each_step_of_it(site: Site) -> None:
    """A single step keeps the stage's checks: it removes no webhook under Workflows, and does not restart slurmctld."""
    first, deploy = chosen(only(site, MASTER), STAGES, "deploy.applied")
    assert [item.name for item in deploy.steps] == ["workflows", "jobs", "applied"]
    assert {"workflows", "jobs"} <= {one.name for one in first.steps}
    daemon = chosen(only(site, PRIMARY), STAGES, "slurm.daemon")[1]
    assert [item.name for item in daemon.steps] == ["hooks", "queue", "daemon"]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("plugins", "did you mean plugin?"),
        ("plugin.luae", "did you mean lua?"),
        ("plugin.repository", f"it runs on {MASTER}"),
        ("deploy", f"it runs on {MASTER}"),
    ],
)
def test_a_stage_without_work_on_the_host_is_reported(
    site: Site, what: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown stage or step, or one that does not run on the host, ends with the known ones and exit code 2."""
    with pytest.raises(SystemExit) as ended:
        chosen(only(site, PRIMARY), STAGES, what)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def _stage(name: str, *needs: str) -> Stage:
    step = Step("file", "controller", lambda place: pytest.fail("not looked at"), lambda place: "right")
    return Stage(name, needs, (step,))


@pytest.mark.parametrize(
    ("found", "names"),
    [
        ({"one": "right", "two": "right"}, []),
        ({"one": "wrong", "two": "right"}, ["one.file"]),
        ({"one": "wrong", "two": "wrong", "other": "wrong"}, ["one.file", "two.file"]),
        ({}, []),
    ],
)
def test_what_a_stage_needs_has_to_be_right_before(site: Site, found: dict[str, str], names: list[str]) -> None:
    """Incorrect steps of all stages that it builds on refuse a repair; those of other stages do not."""
    stages = [_stage("one"), _stage("other"), _stage("two", "one"), _stage("three", "two")]
    facts = Facts({f"{name}.file": {PRIMARY: value} for name, value in found.items()})
    check = repair_needs.check(stages, "three", "controller")
    told = check.judge(StepContext(site, facts, PRIMARY), None)
    assert [finding.text.split()[0] for finding in told] == names
    assert all(f"fab -H {PRIMARY} repair" in finding.fix for finding in told)


def test_what_a_needed_step_refuses_refuses_the_repair(site: Site) -> None:
    """A step that does not know what it wants counts as incorrect."""

    def refuse(place: StepContext) -> str:
        raise Refused

    one = _stage("one")
    step = one.steps[0]
    assert isinstance(step, Step)
    stages = [replace(one, steps=(replace(step, want=refuse),)), _stage("two", "one")]
    check: Check = repair_needs.check(stages, "two", "controller")
    assert len(check.judge(StepContext(site, Facts({"one.file": {PRIMARY: ""}}), PRIMARY), None)) == 1


def test_long_texts_are_shown_as_their_size() -> None:
    """The screen shows values, and the size of a file; never a secret."""
    seen = brief({"mode": "644", "text": "a\nb\n", "list": ["x" * 200], "objects": [{}] * 9, "key": Secret(b"s3cret")})
    assert seen == {
        "mode": "644",
        "text": "(4 bytes, 2 lines)",
        "list": ["(200 bytes, 1 line)"],
        "objects": "(9 entries)",
        "key": "(secret)",
    }


def test_importing_a_module_of_ours_does_not_import_fabric() -> None:
    """Only `fab` loads Fabric; importing a part of the package does not."""
    code = "import sys, dws_on_csm.model.step; assert not {'fabric', 'invoke', 'paramiko'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_fab_lists_the_repairs() -> None:
    """Fabric's own command finds the tasks in the checkout."""
    fab = Path(sys.executable).with_name("fab")
    done = subprocess.run([fab, "--list"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ") and line[2] != " "] == [
        "logs",
        "look",
        "redo",
        "repair",
    ]


def test_fab_names_its_own_option_where_there_is_no_site_file(tmp_path: Path) -> None:
    """fab's message about a missing site file names --site, not the --hosts of invoke's tasks."""
    fab = Path(sys.executable).with_name("fab")
    words = [str(fab), "-H", "ncn-m001", "look", "--site", str(tmp_path / "hosts.yaml")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "--site PATH" in done.stderr, "--hosts" in done.stderr) == (2, True, False), done.stderr
