"""An undeploy where somebody else deploys DWS: it closes DWS to this site alone, and takes what is ours."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from dws_on_csm.config.site import Site
from dws_on_csm.model.actions import Apply, Delete, RunScript
from dws_on_csm.model.step import ApiLook, Step, StepContext
from dws_on_csm.stages import undeploy
from dws_on_csm.stages.access import external_role
from dws_on_csm.stages.dws import closing, in_use
from dws_on_csm.stages.facts import BINDING, PREFLIGHT_KUBECONFIG, ROLE
from tests.unit import steps
from tests.unit.external_site import Api, context, external_site

RULES = external_role.own()["rules"]


@pytest.fixture
def site() -> Site:
    """A site whose DWS somebody else deploys."""
    return external_site()


def test_an_undeploy_takes_only_what_is_ours() -> None:
    """Slurm's side and the plugin's rights; nothing of DWS, and no clone."""
    stages = undeploy.of_external()
    assert [stage.name for stage in stages] == ["preflight", "close", "slurm", "plugin", "access", "open"]
    assert {item.name for item in stages[4].steps} == {"binding", "role", "slurm-cluster"}
    assert not {item.name for item in stages[0].steps} & {"storage", "owned", "installer", "shared", "stuck"}
    assert "orphans" in {item.name for item in undeploy.of_external(orphans=True)[4].steps}


def test_dws_is_closed_to_this_site_alone(site: Site) -> None:
    """To the plugin's Workflows in the namespaces of its kubeconfigs, if all were seen. What another Slurm's run left closed is not
    enough."""
    (close,) = (step for step in undeploy.of_external()[1].steps if isinstance(step, Step))
    others = closing.of_slurm({"origin": "burst_buffer.lua"}, ["slurm-b"])
    every = closing.of_slurm({"origin": "burst_buffer.lua"}, [])

    def state(here: StepContext, have: Any) -> Any:
        look = close.look(here)
        assert isinstance(look, ApiLook)
        return look.read(Api({closing.PATH: have} if have else {}))  # type: ignore[arg-type]

    def closed(here: StepContext) -> Any:
        (action,) = steps.change(undeploy.of_external()[1], "dws", here, "open", "closed")
        assert isinstance(action, RunScript)
        return json.loads(shlex.split(action.script)[2])

    here = context(site)
    assert closed(here) == every, "a kubeconfig that was not seen"
    assert [state(here, have) for have in (None, others, every)] == ["open", "open", "closed"]
    files = {host.name: {"mode": "600", "namespace": f"n{at}"} for at, host in enumerate(site.controllers)}
    here.facts.found[PREFLIGHT_KUBECONFIG.name] = {
        **files,
        site.controllers[-1].name: {"mode": "600", "namespace": "$no"},
    }
    (webhook,) = closed(here)["webhooks"]
    spaces = [f"n{at}" for at in range(len(files) - 1)]
    assert webhook["namespaceSelector"]["matchExpressions"][0]["values"] == sorted(["default", *spaces])
    assert webhook["objectSelector"] == {"matchLabels": {"origin": "burst_buffer.lua"}}
    cases = [None, others, every, closing.CONFIGURATION, closed(here)]
    assert [state(here, have) for have in cases] == ["open", "open", "closed", "closed", "closed"]
    assert close.side_effect and "burst-buffer-is-being-removed" in close.side_effect(here, "open", "closed")


def test_workflows_of_others_do_not_prevent_it() -> None:
    """DWS serves them as before."""
    assert in_use.Terms(slurm=True, stays=True).spared == {"foreign"}
    assert in_use.Terms().spared == {"lost"}


@pytest.mark.parametrize(("others", "own"), [([], True), (["User slurm-b"], True), ([], False)])
def test_the_names_of_others_keep_their_rights(site: Site, others: list[str], own: bool) -> None:
    """And the role that gives them."""
    binding = {"role": "workload-manager", "subjects": sorted([f"User {site.access.common_name}", *others])}
    role = {"rules": RULES, "name": "workload-manager", "own": own}
    here = context(site, **{BINDING.name.replace(".", "_"): binding, ROLE.name.replace(".", "_"): role})
    stage = undeploy.of_external()[4]
    want = steps.step(stage, "binding").want(here)
    (action,) = steps.change(stage, "binding", here, binding, want)
    assert isinstance(action, Apply if others else Delete)
    assert want == ({"role": "workload-manager", "subjects": others} if others else None)
    have = steps.read(stage, "role", here, role)
    assert (have == steps.step(stage, "role").want(here)) == (bool(others) or not own)
