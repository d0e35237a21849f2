"""The lab's Slurm as CSM has it: what the manifests say, and what the Job's program renders."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import access, csm, go_builds, slurm
from lab.model import Csm, Lab, Options
from tests.unit.lab.test_lab_slurm_pod import PASSWD


def a_lab(tmp_path: Path, flavour: Csm) -> Lab:
    """A lab of this flavour that is not booted, on a root with the accounts that Slurm needs."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True, exist_ok=True)
    (root / "etc/passwd").write_text(PASSWD)
    return Lab("test", tmp_path / "state", 3, Options(slurm_root=root, csm=flavour))


def objects(lab: Lab, kind: str) -> dict[str, Any]:
    """The manifests of a kind, by NAMESPACE/NAME."""
    found = [item for item in yaml.safe_load_all(csm.manifests(lab)) if item["kind"] == kind]
    return {f"{item['metadata'].get('namespace', '')}/{item['metadata']['name']}": item for item in found}


def test_a_chart_has_what_the_documents_of_csm_name(tmp_path: Path) -> None:
    """Templates and Job in services, two Deployments in user that say that Helm manages them."""
    lab = a_lab(tmp_path, "helm")
    assert set(objects(lab, "ConfigMap")) == {"services/slurm-config-templates"}
    assert set(objects(lab, "Job")) == {"services/slurm-config"}
    deployments = objects(lab, "Deployment")
    assert set(deployments) == {"user/slurmctld", "user/slurmctld-backup"}
    for name, deployment in deployments.items():
        assert deployment["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"
        assert deployment["spec"]["selector"]["matchLabels"] == {"app": name.partition("/")[2]}


def test_an_operator_makes_the_deployments_itself(tmp_path: Path) -> None:
    """The manifests have the operator alone; what it makes is in its ConfigMap."""
    lab = a_lab(tmp_path, "operator")
    assert set(objects(lab, "Deployment")) == {"slurm-operator/slurm-operator"}
    owned = json.loads(objects(lab, "ConfigMap")["slurm-operator/slurm-operator"]["data"]["owned.json"])
    assert [item["metadata"]["name"] for item in owned["deployments"]] == ["lab-slurmctld", "lab-slurmctld-backup"]
    assert owned["cluster"].endswith("/namespaces/vcluster-lab-slurm/slurmclusters/lab")


@pytest.mark.parametrize("flavour", ["helm", "operator"])
def test_the_site_file_names_both_pods(tmp_path: Path, flavour: Csm) -> None:
    """Primary first, each by a selector that finds the pods of its own Deployment alone."""
    lab = a_lab(tmp_path, flavour)
    controllers = [entry["pod"] for entry in yaml.safe_load(access.site_file(lab))["controllers"]]
    assert [pod["name"] for pod in controllers] == list(csm.flavour(lab).workloads)
    for number, pod in enumerate(controllers):
        labels = csm.deployment(lab, number)["spec"]["template"]["metadata"]["labels"]
        assert pod["selector"] == ",".join(f"{key}={value}" for key, value in labels.items())


def test_a_node_has_no_configuration_of_its_own(tmp_path: Path) -> None:
    """A configless node asks slurmctld and its backup; nothing lies in its /etc/slurm."""
    lab, folder = a_lab(tmp_path, "helm"), tmp_path / "layer"
    slurm.write_layer(lab, lab.host("nid000001"), folder)
    assert not list((folder / "etc/slurm").iterdir())
    unit = (folder / "etc/systemd/system/slurmd.service.d/configless.conf").read_text()
    assert "--conf-server=ncn-w001,ncn-w002" in unit


@pytest.mark.slow
def test_the_templates_rendered_are_what_slurm_reads(tmp_path: Path) -> None:
    """The program replaces its placeholder by the nodes, and refuses one that it does not know; other files stay as they are."""
    lab = a_lab(tmp_path, "helm")
    templates = objects(lab, "ConfigMap")["services/slurm-config-templates"]["data"]
    (job,) = objects(lab, "Job").values()
    (container,) = job["spec"]["template"]["spec"]["containers"]
    nodes = container["env"][0]["value"]
    assert csm.PLACEHOLDER in templates["slurm.conf"] and "nid[000001-000002]" in nodes
    source = tmp_path / "go"
    shutil.copytree(go_builds.MODULES / "slurm-config", source)
    (source / "rendered_test.go").write_text(RENDERED)
    folder = tmp_path / "templates"
    folder.mkdir()
    for name, text in {**templates, "burst_buffer.lua": "t = {{1}}\n"}.items():
        (folder / name).write_text(text)
    wanted = templates["slurm.conf"].replace(csm.PLACEHOLDER, nodes)
    (tmp_path / "wanted").write_text(wanted)
    settings = [f"-folder={folder}", f"-nodes={nodes}", f"-wanted={tmp_path / 'wanted'}"]
    command = [str(go_builds.go()), "test", "-vet=off", ".", "-args", *settings]
    environment = go_builds.environment(tmp_path)
    done = subprocess.run(
        command, cwd=source, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


RENDERED = """package main

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var folder, nodes, wanted = flag.String("folder", "", ""), flag.String("nodes", "", ""), flag.String("wanted", "", "")

func TestRendered(t *testing.T) {
	data, err := rendered(*folder, *nodes)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(*wanted)
	if err != nil {
		t.Fatal(err)
	}
	if data["slurm.conf"] != string(text) || data["burst_buffer.lua"] != "t = {{1}}\\n" {
		t.Fatalf("rendered: %q", data)
	}
	if err := os.WriteFile(filepath.Join(*folder, "slurm.conf"), []byte("{{ other }}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := rendered(*folder, *nodes); err == nil {
		t.Fatal("an unknown placeholder was rendered")
	}
}
"""
