"""Facts have the name of a step or check of some procedure: a fact that no look returns would never be known."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

from dws_on_csm import commands, stages
from dws_on_csm.commands import certificates
from dws_on_csm.commands.doctor import probes
from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model.step import Fact, Facts, NotYetKnown, Stage
from dws_on_csm.stages import install, undeploy, verify_cancel
from dws_on_csm.stages.access import revoke, revoke_account, rotate
from dws_on_csm.stages.dws import orphan_by_name
from dws_on_csm.stages.rollback import objects, templates

NUMBER: Fact[int] = Fact("stage", "step")


def procedures() -> list[Stage]:
    """The stages of all commands."""
    site = load(DEFAULT)
    return [
        *install.procedure(site),
        *install.EXTERNAL,
        *undeploy.of_external(),
        *undeploy.stages(slurm=True, rbac=True),
        *rotate.stages(site),
        *revoke.stages(),
        *revoke_account.stages(),
        *certificates.STAGES,
        *probes.stages(site),
        verify_cancel.STAGE,
        *orphan_by_name.stages("bb1"),
        Stage("replace", (), objects.saved("a-run")),
        Stage("pods", (), (templates.step((), "a-run"),)),
    ]


def test_every_declared_fact_is_returned_by_a_step_or_check() -> None:
    """Its stage and its step exist, as users read them."""
    known = {f"{stage.name}.{item.name}" for stage in procedures() for item in stage.steps}
    packages = [
        module
        for package in (stages, commands)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    modules = [importlib.import_module(module.name) for module in packages]
    declared = {fact.name for module in modules for fact in vars(module).values() if isinstance(fact, Fact)}
    assert declared and declared <= known, sorted(declared - known)


def test_a_fact_is_known_once_a_host_was_looked_at() -> None:
    """Before that, `one` says which stage has to come first."""
    facts = Facts()
    assert facts.one_or_none(NUMBER) is None and not facts.known(NUMBER)
    with pytest.raises(NotYetKnown, match="stage"):
        facts.one(NUMBER)
    facts.found[NUMBER.name] = {"a": 1, "b": 2}
    assert (facts.one(NUMBER), facts.all(NUMBER)["b"], facts.on(NUMBER, "b")) == (1, 2, 2)


def test_a_fact_of_a_host_that_was_not_looked_at_is_not_known() -> None:
    """`on` says which stage has to come first, though another host's fact is known."""
    with pytest.raises(NotYetKnown, match="stage"):
        Facts({NUMBER.name: {"a": 1}}).on(NUMBER, "b")


def test_the_first_look_stays_known() -> None:
    """`at_first` has it, also where a later look returned another value."""
    assert Facts({NUMBER.name: {"a": 2}}, {NUMBER.name: {"a": 1}}).at_first(NUMBER) == {"a": 1}
