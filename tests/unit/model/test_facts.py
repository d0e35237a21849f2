"""Facts have the name of a step or check of some procedure: a fact that no look returns would never be known."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

from dws_on_csm import stages
from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model.step import Fact, Facts, NotYetKnown
from dws_on_csm.stages import install, undeploy

NUMBER: Fact[int] = Fact("stage", "step")


def test_every_declared_fact_is_returned_by_a_step_or_check() -> None:
    """Its stage and its step exist, as users read them."""
    procedures = [*install.procedure(load(DEFAULT)), *undeploy.stages(slurm=True, rbac=True)]
    known = {f"{stage.name}.{item.name}" for stage in procedures for item in stage.steps}
    modules = [
        importlib.import_module(one.name) for one in pkgutil.walk_packages(stages.__path__, f"{stages.__name__}.")
    ]
    declared = {fact.name for module in modules for fact in vars(module).values() if isinstance(fact, Fact)}
    assert declared and declared <= known


def test_a_fact_is_known_once_a_host_was_looked_at() -> None:
    """Before that, `one` says which stage has to come first."""
    facts = Facts()
    assert facts.one_or_none(NUMBER) is None and not facts.known(NUMBER)
    with pytest.raises(NotYetKnown, match="stage"):
        facts.one(NUMBER)
    facts.found[NUMBER.name] = {"a": 1, "b": 2}
    assert (facts.one(NUMBER), facts.all(NUMBER)["b"]) == (1, 2)
