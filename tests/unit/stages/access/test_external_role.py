"""Rights where somebody else deploys DWS: whose role is bound, and a binding that is recreated for another role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from dws_on_csm.config.site import Site
from dws_on_csm.domain import names, plugin_role
from dws_on_csm.model.actions import Action, Apply, Delete
from dws_on_csm.model.step import Refused
from dws_on_csm.stages import undeploy
from dws_on_csm.stages.access import external_role, rbac
from dws_on_csm.stages.access.stage import STAGE as ACCESS
from tests.unit import steps
from tests.unit.external_site import Api, context, external_site


@pytest.fixture
def site() -> Site:
    """A site whose DWS somebody else deploys."""
    return external_site()


RULES = external_role.own()["rules"]


@pytest.mark.parametrize(
    ("have", "name", "applied"),
    [
        pytest.param(
            {"rules": RULES, "name": "dws-workload-manager", "own": False}, "dws-workload-manager", 0, id="theirs"
        ),
        pytest.param(None, "workload-manager", 1, id="none"),
        pytest.param({"rules": [], "name": "workload-manager", "own": True}, "workload-manager", 1, id="ours-edited"),
        pytest.param({"rules": [], "name": "dws-workload-manager", "own": False}, "", 0, id="theirs-too-narrow"),
    ],
)
def test_the_role_that_is_there_is_used_and_one_is_made_where_there_is_none(
    site: Site, have: Any, name: str, applied: int
) -> None:
    """A role of DWS is not changed: where it allows too little, the run says so."""
    here = context(site, access_role=have)
    if not name:
        with pytest.raises(Refused, match="role-lacks-rights"):
            rbac.ROLE_STEP.want(here)
        return
    want = rbac.ROLE_STEP.want(here)
    actions = steps.change(ACCESS, "role", here, have, want) if have != want else []
    assert (rbac.role(here), len(actions), plugin_role.lacking(want["rules"])) == (name, applied, [])
    assert all(isinstance(action, Apply) for action in actions)


def test_a_bound_role_that_will_do_is_kept() -> None:
    """DWS brings another one from 0.1.1 on. Recreating the binding for it would interrupt other Slurms for nothing."""
    theirs, usual = (f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{name}" for name in names.ROLES)
    bound = {f"{rbac.BINDINGS}/{names.BINDING}": {"roleRef": {"name": "workload-manager"}}}
    marked = {"labels": dict(external_role.MARK)}
    for meta, rules, kept in [({}, RULES, True), ({}, [], False), (marked, [], True)]:
        api = Api({theirs: {"metadata": {}, "rules": RULES}, usual: {"metadata": meta, "rules": rules}, **bound})
        have = external_role.read(api)  # type: ignore[arg-type]
        assert have and (have["name"] == "workload-manager") == kept
        own = external_role.read_own(api)  # type: ignore[arg-type]
        assert (own is not None) == bool(meta), "what an undeploy removes does not depend on the binding"
    del api.objects[usual]  # type: ignore[attr-defined]
    have = external_role.read(api)  # type: ignore[arg-type]
    assert have and have["name"] == "dws-workload-manager"


OURS, THEIRS = "User slurm-dws", "User slurm-b"


class Bindings:
    """An API with ClusterRoleBindings that stops answering after some calls that change something."""

    def __init__(self, calls: int) -> None:
        self.objects: dict[str, Any] = {}
        self.calls = calls

    def get(self, path: str) -> Any:
        """The object at a path."""
        return self.objects.get(path)

    def apply(self, manifest: Mapping[str, Any]) -> None:
        """Apply a binding; the API server refuses another role for one that exists."""
        path = f"{rbac.BINDINGS}/{manifest['metadata']['name']}"
        assert self.objects.get(path, manifest)["roleRef"] == manifest["roleRef"]
        self.objects[path] = manifest

    def do(self, actions: Sequence[Action]) -> None:
        """Do what a step does, as far as it comes; in between, everybody has rights all the time."""
        for action in actions:
            if self.calls == 0:
                return
            self.calls -= 1
            if isinstance(action, Apply):
                self.apply(action.manifest)
            else:
                assert isinstance(action, Delete)
                self.objects.pop(action.path, None)
            named = {subject["name"] for bound in self.objects.values() for subject in bound["subjects"]}
            assert named == {"slurm-dws", "slurm-b"}, action


@pytest.mark.parametrize("calls", range(5))
@pytest.mark.parametrize("then", ["new", "old", "third"])
def test_a_recreated_binding_leaves_nobody_without_rights(calls: int, then: str) -> None:
    """Also where the run is interrupted after any call, and the next one wants the role that was bound before, or a third: it knows
    all subjects, and leaves the one binding."""
    api: Any = Bindings(1)
    api.do(rbac.bind(None, "old", [OURS, THEIRS]))
    for role, limit in (("new", calls), (then, 9)):
        api.calls = limit
        have = rbac.read_binding(api)
        assert have and have["subjects"] == [THEIRS, OURS]
        api.do(rbac.bind(have, role, [OURS, THEIRS]))
    assert rbac.read_binding(api) == {"role": then, "subjects": [THEIRS, OURS]}
    assert len(api.objects) == 1


def test_what_an_interrupted_run_left_goes_with_the_binding(site: Site) -> None:
    """An undeploy removes the interim binding, too, and a command to paste does."""
    binding: Any = {"role": "workload-manager", "subjects": [OURS, THEIRS], "interim": "instead"}
    paths = [action.path for action in rbac.unbind(binding) if isinstance(action, Delete)]
    assert [path.rpartition("/")[2] for path in paths] == ["slurm-dws-viewer", "slurm-dws-viewer-interim"]
    assert paths == [path for label, path in undeploy.APPLIED.items() if "Binding" in label]
    command = rbac.removal_command(context(site), binding)
    assert "kubectl create --filename=- && kubectl delete clusterrolebinding slurm-dws-viewer-interim" in command
