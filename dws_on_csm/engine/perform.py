"""Applying a step's actions on its host and in the cluster, and the looks that prove them, in the same exec."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from dws_on_csm.engine import before_images
from dws_on_csm.engine import looks as engine_looks
from dws_on_csm.engine.host_script import BUSY, RETRY, STILL, WAITS, compile_actions, fenced
from dws_on_csm.engine.looks import Board, Item
from dws_on_csm.engine.reach import Reach, StepReporter
from dws_on_csm.model.actions import (
    Action,
    Apply,
    CallApi,
    Delete,
    Put,
    Remove,
    RunElsewhere,
    RunScript,
    Upload,
    title,
    total_deadline,
)
from dws_on_csm.model.cluster_api import CONFLICT, ClusterError
from dws_on_csm.model.errors import RemoteError
from dws_on_csm.model.events import Failure
from dws_on_csm.transport.output import tail


class ActionFailed(Exception):
    """An action failed; `failure` says how, for people."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.command)
        self.failure = failure


def perform(
    reach: Reach, board: Board, reporter: StepReporter, actions: Sequence[Action], proof: Mapping[str, Item]
) -> None:
    """Do `actions` in order, then make the looks of `proof` on this host; in the same exec where the last action runs there.

    Raises ActionFailed, Refused, ClusterError and what the session raises.
    """
    groups = [(kind, list(group)) for kind, group in groupby(actions, key=_where)]
    left = proof
    looked = False
    for number, (kind, group) in enumerate(groups):
        last = number == len(groups) - 1
        reach.guard()
        touched = [path for action in group for path in before_images.touched(action, reach.cluster)]
        before_images.keep(reach, reporter, touched)
        if kind == "host":
            left = _on_host(reach, board, reporter, group, proof if last else {})
            looked = last
        elif kind == "cluster":
            perform_in_cluster(reach, reporter, group)
        else:
            for ask in group:
                assert isinstance(ask, RunElsewhere | CallApi)
                _elsewhere(reach, board, reporter, ask, proof if last else {})
                left, looked = {}, last
        before_images.record_result(reach, reporter, touched)
    board.note(reporter.stage)
    if looked:
        engine_looks.read_api(board, reporter.host, left, reach.cluster)
    else:
        engine_looks.refresh(reach, board, reporter.host, proof)


def _where(action: Action) -> str:
    if isinstance(action, RunScript | Put | Upload | Remove):
        return "host"
    return "ask" if isinstance(action, RunElsewhere | CallApi) else "cluster"


def _on_host(
    reach: Reach, board: Board, reporter: StepReporter, group: Sequence[Action], proof: Mapping[str, Item]
) -> Mapping[str, Item]:
    """Do the `group` and make the shell looks of `proof` in one exec. Returns the items of `proof` whose looks go to the API."""
    mark = engine_looks.marker()
    script, data = compile_actions(group, reporter.run, mark, f"{reporter.stage}.{reporter.step}")
    looks, left = engine_looks.snippets(board, proof, reporter.host)
    deadline = total_deadline(group) + (board.site.deadlines.look if looks else 0.0)
    watch = ScriptProgress(reporter, group, mark)
    answer = reach.change(
        reporter.host, script + engine_looks.script(looks, mark), data, deadline=deadline, line=watch.line
    )
    if answer.code != 0 and not watch.looking:
        raise ActionFailed(watch.failure(answer.code))
    reporter.notes.extend(action.note for action in group if isinstance(action, RunScript) and action.note)
    board.note(reporter.stage)
    engine_looks.read_shell(board, reporter.host, looks, engine_looks.split(answer.out, answer.err, mark), "")
    return left


class ScriptProgress:
    """Follows the output of a script: which action runs, and its last lines."""

    def __init__(self, reporter: StepReporter, group: Sequence[Action], mark: str) -> None:
        self.reporter, self.group, self.mark = reporter, group, mark
        self.number = 0
        self.looking = False
        self.tail: list[str] = []

    def line(self, text: str) -> None:
        """Take a line of output: a marker says which action begins, everything else is the action's own output."""
        if text.startswith(f"{self.mark} action "):
            number = text.rsplit(" ", 1)[1]
            # the host could print any number: only an action that was sent is shown
            if not (number.isascii() and number.isdigit() and len(number) < 6 and int(number) < len(self.group)):
                return
            self.number = int(number)
            self.tail = []
            self.reporter.began(title(self.group[self.number]))
        elif text.startswith(self.mark):
            self.looking = True
        elif text.strip() and not self.looking:
            self.tail = [*self.tail[-19:], text]
            self.reporter.line(text)

    def failure(self, code: int) -> Failure:
        """The failure of the action that ran last."""
        meaning = f"{STILL}; {RETRY}" if code == BUSY else ""
        return Failure(title(self.group[self.number]), code, tuple(self.tail), meaning)


def perform_in_cluster(reach: Reach, reporter: StepReporter, group: Sequence[Action]) -> None:
    """Perform the actions of `group` through the Kubernetes API. Raises ActionFailed."""
    deleted: dict[str, float] = {}
    for number, action in enumerate(group):
        if number:
            reach.guard()
        reporter.began(title(action))
        if isinstance(action, Apply):
            reach.cluster().apply(action.manifest)
            kind, name = action.manifest["kind"], action.manifest["metadata"]["name"]
            if since := deleted.pop(f"{kind.lower()}s/{name}", 0.0):
                reporter.notes.append(
                    f"{kind} {name} was recreated: missing for {time.monotonic() - since:.2f} s at most"
                )
        else:
            assert isinstance(action, Delete)
            deleted["/".join(action.path.split("/")[-2:])] = time.monotonic()
            _delete(reach.cluster(), action)


TRIES = 10
"""How often a deletion is tried while controllers keep changing the object's status."""


def _delete(cluster: Any, action: Delete) -> None:
    """Delete the object that was judged, and no other version of it. Raises Refused where it may not be deleted any more."""
    if action.recheck is None:
        cluster.delete(action.path, action.deadline, *([action.uid] if action.uid else []))
        return
    for left in reversed(range(TRIES)):
        if (current := cluster.get(action.path)) is None:
            return
        action.recheck(cluster, current)
        meta = current["metadata"]
        try:
            cluster.delete(action.path, action.deadline, action.uid or meta["uid"], meta["resourceVersion"])
            return
        except ClusterError as error:
            if error.status != CONFLICT or not left:
                raise


def _elsewhere(
    reach: Reach, board: Board, reporter: StepReporter, ask: RunElsewhere | CallApi, proof: Mapping[str, Item]
) -> None:
    """Do what `ask` says elsewhere, and the actions here that its answer makes; if any of it fails, what `ask` has for that."""
    printed: list[bytes] = []
    try:
        perform(reach, board, reporter, _answer(reach, reporter, ask, printed), proof)
    except Exception as error:
        undo = ask.abandon(b"".join(printed)) if isinstance(ask, RunElsewhere) else ()
        left = _abandon(reach, reporter, undo)
        if left and isinstance(error, ActionFailed):
            failure = error.failure
            raise ActionFailed(replace(failure, meaning="; ".join(filter(None, (failure.meaning, left))))) from error
        if left and isinstance(error, RemoteError):
            raise ActionFailed(Failure(ask.title, meaning=f"{error}; {left}", fix=error.fix)) from error
        raise


def _abandon(reach: Reach, reporter: StepReporter, undo: Sequence[RunElsewhere]) -> str:
    """Run these scripts up to the first that fails. Returns which one and why, or ""."""
    for ask in undo:
        try:
            _answer(reach, reporter, ask, [])
        except ActionFailed as failed:
            failure = failed.failure
            return f"not done: {ask.title}: {failure.meaning or ' '.join(failure.tail[-3:]) or f'exit code {failure.code}'}"
        except RemoteError as error:
            return f"not done: {ask.title}: {error}"
    return ""


def _answer(
    reach: Reach, reporter: StepReporter, ask: RunElsewhere | CallApi, printed: list[bytes]
) -> Sequence[Action]:
    """Do what `ask` says elsewhere. Returns the next actions here, which its answer makes; what it prints is added to `printed`."""
    reporter.began(ask.title)
    if isinstance(ask, CallApi):
        return ask.then(ask.ask(reach.cluster()))
    line = reporter.line if ask.show_output else None
    script = fenced(
        reporter.run, "set -eu\numask 077\n" + (ask.script if isinstance(ask.script, str) else ask.script())
    )
    answer = reach.change(reach.of(ask.role), script, deadline=ask.deadline + WAITS, line=line)
    printed.append(answer.out)
    if answer.code == BUSY:
        raise ActionFailed(Failure(ask.title, BUSY, meaning=f"{STILL}; {RETRY}"))
    if answer.code != 0:
        output = answer.out + answer.err if ask.show_output else answer.err
        raise ActionFailed(Failure(ask.title, answer.code, tail(output, lines=10)))
    return ask.then(answer.out)
