"""The version that the plugin is to write: by the wanted DWS's own CRD, for the file, the checks and what is saved."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.config.site import Plugin
from dws_on_csm.domain import names
from dws_on_csm.domain.workflow_version import MARK, lacking, written
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.model.step import Facts, NotYetKnown, Refused, StepContext
from dws_on_csm.stages.dws import deploy, kept_configuration, manifests, plugin_workflow_version
from dws_on_csm.stages.slurm import plugin
from lab import upstream_fakes
from tests.unit import steps

pytestmark = pytest.mark.slow

BASES = "config/crd/bases/dataworkflowservices.github.io_workflows.yaml"
LUA = Path("lab/upstream/dws-slurm-bb-plugin/src/burst_buffer/burst_buffer.lua").read_text()


@pytest.fixture(scope="module")
def crds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The CRD of Workflows of each version of the lab's DWS."""
    folder = tmp_path_factory.mktemp("dws") / "clone"
    upstream_fakes.dws_history(folder)
    show = ["git", "-C", str(folder), "show"]
    return {
        tag: subprocess.run([*show, f"v{tag}:{BASES}"], check=True, capture_output=True, text=True, timeout=60).stdout
        for tag in ("0.0.20", "0.1.9", "0.1.17")
    }


def rendered(crd: str) -> manifests.Rendered:
    """What the master's program makes of a rendered CRD."""
    done = subprocess.run(
        [sys.executable, "-c", manifests.TRIM], input=crd.encode(), capture_output=True, timeout=60, check=True
    )
    return manifests.parse(done.stdout)


def place(dws: str, found: manifests.Rendered | None, mode: Any = "auto") -> StepContext:
    """A controller of a site that asks for this DWS; `found`: its manifests, if it is cloned."""
    site = load(DEFAULT)
    site = replace(site, versions=replace(site.versions, dws=dws), plugin=Plugin(mode))
    controller = {"version": "24.11.5", "hooks": [], "linked": ["5.4"], "lua": [["5.4", "/usr/bin/lua5.4"]]}
    files = {names.PLUGIN_LUA: LUA, names.PLUGIN_CONF: "Directive=DW\n"}
    facts: dict[str, Any] = {
        "preflight.controller": {"slurmctl": controller},
        "plugin.repository": {
            "ncn-m001": {"there": True, "commit": "c0ffee", "modified": [], "open": "", "files": files}
        },
    }
    facts |= {"workarea.rendered": {"ncn-m001": found}} if found else {}
    return StepContext(site, Facts(facts), "slurmctl")


def lua(ctx: StepContext) -> str:
    """The wanted burst_buffer.lua."""
    text: str = steps.step(plugin.STAGE, "lua").want(ctx)["text"]
    return text


@pytest.mark.parametrize("dws", ["0.0.20", "0.1.9"])
def test_a_dws_that_serves_the_plugins_version_changes_nothing(crds: dict[str, str], dws: str) -> None:
    """The plugin's file is upstream's, with nothing but the hooks that Slurm asks for."""
    ctx = place(dws, rendered(crds[dws]))
    assert plugin_workflow_version.wanted(ctx) == "v1alpha2" and MARK not in lua(ctx)


def test_a_newer_dws_gets_workflows_of_the_version_that_it_stores(crds: dict[str, str]) -> None:
    """The file is changed, with the mark; the CRD has all that the plugin uses; and the schemas are not in the objects."""
    found = rendered(crds["0.1.17"])
    ctx = place("0.1.17", found)
    assert written(lua(ctx)) == "v1alpha7" == plugin_workflow_version.wanted(ctx)
    assert f"-- {MARK}: v1alpha2 is now v1alpha7" in lua(ctx) and "DWS 0.1.17" in lua(ctx)
    assert plugin_workflow_version.judge(ctx) == () and lacking(found["workflows"]["v1alpha7"]) == []
    assert {tuple(version) for version in found["objects"][0]["spec"]["versions"]} == {("name", "served", "storage")}


def test_before_the_clone_only_what_the_table_knows_is_known(crds: dict[str, str]) -> None:
    """A plan of an empty site shows the file of a DWS that serves the plugin's version; that of a newer one is known later."""
    assert written(lua(place("0.1.12", None))) == "v1alpha2"
    with pytest.raises(NotYetKnown, match="known after workarea"):
        lua(place("0.1.17", None))


def test_a_site_can_keep_the_plugins_file_as_it_is(crds: dict[str, str]) -> None:
    """Then nothing is changed in it."""
    assert MARK not in lua(place("0.1.17", rendered(crds["0.1.17"]), "plugin"))


def test_a_version_that_does_not_fit_is_refused_by_name(crds: dict[str, str]) -> None:
    """Before anything is changed, by the check of the clone; and by the step, should it come so far."""
    ctx = place(
        "0.1.17", rendered(crds["0.1.17"].replace("        hurry:\n", "        rush:\n").replace(" hurry: ", " rush: "))
    )
    (finding,) = plugin_workflow_version.judge(ctx)
    assert finding.name == "workflow-version-unfit" and "spec.hurry is missing" in finding.text
    assert "v1alpha7" in finding.text and "0.1.17" in finding.text
    with pytest.raises(Refused, match=r"spec\.hurry"):
        lua(ctx)


class Api:
    """An API that serves these versions, and records what was created."""

    def __init__(self, *served: str, fields: tuple[str, ...] = ("mode", "size")) -> None:
        self.served, self.created = served, list[tuple[str, dict[str, Any]]]()
        self.schema = {"type": "object", "properties": {name: {"type": "string"} for name in fields}}

    def get(self, path: str, **query: str) -> dict[str, Any] | None:
        """Discovery, or the CRD of Storages."""
        parts = path.removeprefix("/apis/").split("/")
        if path == f"/apis/{names.GROUP}":
            return {"versions": [{"groupVersion": f"{names.GROUP}/{version}"} for version in self.served]}
        if parts[0] == names.GROUP and len(parts) == 2:
            return {"resources": [{"name": "storages", "kind": "Storage"}]} if parts[1] in self.served else None
        if path.endswith(f"/customresourcedefinitions/storages.{names.GROUP}"):
            whole = {"openAPIV3Schema": {"type": "object", "properties": {"spec": self.schema}}}
            versions = [
                {"name": name, "served": True, "storage": name == self.served[-1], "schema": whole}
                for name in self.served
            ]
            return {"metadata": {}, "spec": {"names": {"kind": "Storage"}, "versions": versions}}
        return None

    def create(self, path: str, item: dict[str, Any], **query: str) -> None:
        """Record it, or refuse a version that is not served."""
        assert path.split("/")[3] in self.served, path
        self.created.append((path, json.loads(json.dumps(item))))


@pytest.mark.parametrize(
    ("saved", "served"), [("v1alpha5", ("v1alpha6", "v1alpha7")), ("v1alpha7", ("v1alpha2", "v1alpha5"))]
)
def test_what_was_saved_is_put_back_in_a_version_that_is_served(saved: str, served: tuple[str, ...]) -> None:
    """Across the border, in both directions, in the version that the new DWS stores; with a common version as it was saved."""
    meta = {"name": "rabbit-1", "namespace": "default", "uid": "u"}
    item = {"apiVersion": f"{names.GROUP}/{saved}", "kind": "Storage", "metadata": meta, "spec": {"mode": "live"}}
    api = Api(*served)
    kept_configuration.put(api, [item])  # type: ignore[arg-type]
    ((path, created),) = api.created
    assert path == f"/apis/{names.GROUP}/{served[-1]}/namespaces/default/storages"
    assert (created["apiVersion"], created["spec"]) == (f"{names.GROUP}/{served[-1]}", {"mode": "live"})
    older = Api(*served, fields=("size",))
    assert kept_configuration.states(older, [item])["Storage default/rabbit-1"]["lost"] == [".spec.mode"]  # type: ignore[arg-type]
    same = {**item, "apiVersion": f"{names.GROUP}/{served[0]}"}
    assert kept_configuration.as_served(api, [same]) == [same]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("removed", "dws", "common"),
    [
        ({"v1alpha1", "v1alpha2"}, "0.1.9", "v1alpha2"),
        ({"v1alpha2", "v1alpha5"}, "0.1.17", ""),
        ({"v1alpha2", "v1alpha6"}, "0.1.17", "v1alpha6"),
        ({"v1alpha6", "v1alpha7"}, "0.1.9", ""),
    ],
)
def test_objects_are_saved_in_a_version_of_both(crds: dict[str, str], removed: set[str], dws: str, common: str) -> None:
    """Where the two have none in common, they are saved as they are stored: no field is lost in a conversion to an old version."""
    assert plugin_workflow_version.common(place(dws, rendered(crds[dws])), {"workflows": removed}) == common


@pytest.mark.parametrize(("dws", "version"), [("0.0.20", "v1alpha2"), ("0.1.17", "v1alpha7")])
def test_the_dry_run_is_of_the_version_that_the_plugin_writes(crds: dict[str, str], dws: str, version: str) -> None:
    """The webhook is asked what it will be asked by jobs."""
    asked = list[tuple[str, str]]()

    class Cluster:
        """It admits everything."""

        def create(self, path: str, item: dict[str, Any], **query: str) -> None:
            """Record what was asked."""
            asked.append((path, item["apiVersion"]))

    look = steps.step(deploy.STAGE, "webhook").look(place(dws, rendered(crds[dws])))
    look.read(Cluster())  # type: ignore[union-attr, arg-type]
    assert {*asked} == {(f"/apis/{names.GROUP}/{version}/namespaces/default/workflows", f"{names.GROUP}/{version}")}


@pytest.mark.parametrize("called", [True, False])
def test_an_api_server_that_does_not_call_the_webhooks_is_noticed(crds: dict[str, str], called: bool) -> None:
    """DWS's webhook rejects a #DW line that no rule has; where it is admitted, nobody has looked at it."""

    class Cluster:
        """It calls DWS's webhook, or not."""

        def create(self, path: str, item: dict[str, Any], **query: str) -> None:
            """A dry run."""
            assert query == {"dryRun": "All"}
            if called and item["spec"]["dwDirectives"]:
                raise ClusterError(
                    403, 'admission webhook "vworkflow.kb.io" denied the request: unable to find ruleset'
                )

    step = steps.step(deploy.STAGE, "webhook")
    ctx = place("0.0.20", rendered(crds["0.0.20"]))
    have = step.look(ctx).read(Cluster())  # type: ignore[union-attr, arg-type]
    assert (step.have(ctx, have) == step.want(ctx)) == called
    assert have["refusal"] is None
    assert called or have["webhook"] == deploy.UNCHECKED
