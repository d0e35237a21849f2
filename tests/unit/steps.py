"""A stage's steps, called as the engine calls them: by what a step declares, not by the functions behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model.actions import Action
from dws_on_csm.model.step import Facts, Removal, ShellLook, Stage, Step, StepContext, Value

T = TypeVar("T")


def present(value: T | None) -> T:
    """What a look returned, where it found the file."""
    assert value is not None
    return value


def step(stage: Stage, name: str) -> Step:
    """The step of this name."""
    (found,) = (item for item in stage.steps if item.name == name)
    assert isinstance(found, Step)
    return found


def parse(stage: Stage, name: str, printed: bytes, ctx: StepContext | None = None) -> Any:
    """What the step's look makes of the output of its script. The context is the example site's master if none is given."""
    site = load(DEFAULT)
    look = step(stage, name).look(ctx or StepContext(site, Facts(), site.master.host.name))
    assert isinstance(look, ShellLook)
    return look.parse(printed)


def status(stage: Stage, name: str, ctx: StepContext, value: Value) -> str:
    """The text beside the step's outcome, for a look's result."""
    text = step(stage, name).status_text
    assert text
    return text(step(stage, name).have(ctx, value))


def read(stage: Stage, name: str, ctx: StepContext, value: Value) -> Value:
    """The state that a look's result means, in the terms of what is wanted."""
    return step(stage, name).have(ctx, value)


def change(stage: Stage, name: str, ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    """The step's actions."""
    function = step(stage, name).change
    assert function
    return function(ctx, have, want)


def accepted_as(stage: Stage, name: str, ctx: StepContext, have: Value, want: Value) -> str:
    """The finding that covers the whole difference, or ""."""
    function = step(stage, name).accepted_as
    assert function
    return function(ctx, have, want)


def side_effect(stage: Stage, name: str, ctx: StepContext, have: Value, want: Value) -> str:
    """What the change does besides the difference."""
    function = step(stage, name).side_effect
    assert function
    return function(ctx, have, want)


def removals(stage: Stage, name: str, ctx: StepContext, have: Value, want: Value) -> Sequence[Removal]:
    """What the change removes."""
    return step(stage, name).removals(ctx, have, want)
