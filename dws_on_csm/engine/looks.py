"""Reading the hosts: all looks of a host in one exec, those of the Kubernetes API through its client."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dws_on_csm.config.site import Site
from dws_on_csm.engine import frames
from dws_on_csm.engine.frames import Frame
from dws_on_csm.model.cluster_api import Cluster, ClusterError
from dws_on_csm.model.errors import MALFORMED
from dws_on_csm.model.step import (
    ApiLook,
    Check,
    Constant,
    Facts,
    Look,
    NotYetKnown,
    ShellLook,
    Stage,
    Step,
    StepContext,
)
from dws_on_csm.transport.output import tail

Item = Step | Check


class LookFailed(Exception):
    """A snippet that should only read ended badly; the message has its name, exit code and last words."""

    fix = ""


@dataclass
class Board:
    """What is known of each step on each host, and since when; `waits`: the stage that must run before a look can be made.

    `version` counts the changes made so far; a look is stale once a stage that it builds on has changed something since.
    """

    site: Site
    facts: Facts = field(default_factory=Facts)
    seen: dict[tuple[str, str], int] = field(default_factory=dict)
    failed: dict[tuple[str, str], str] = field(default_factory=dict)
    waits: dict[tuple[str, str], str] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    version: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def context(self, host: str) -> StepContext:
        """Where a step of `host` is at work."""
        return StepContext(self.site, self.facts, host)

    def note(self, stage: str) -> None:
        """Something of `stage` has been changed just now."""
        with self.lock:
            self.version += 1
            self.changed[stage] = self.version

    def have(self, key: str, host: str) -> object:
        """What `STAGE.STEP` found on `host`. Raises Unknown if it wasn't looked at, LookFailed if that failed."""
        if (key, host) in self.failed:
            raise LookFailed(self.failed[key, host])
        if (key, host) not in self.seen:
            raise NotYetKnown(self.waits.get((key, host), key.partition(".")[0]))
        return self.facts.found[key][host]

    def store(self, key: str, host: str, value: object) -> None:
        """A look's result. Whoever goes through those of other hosts at that moment goes on with what was there."""
        with self.lock:
            self.failed.pop((key, host), None)
            self.facts.found[key] = {**self.facts.found.get(key, {}), host: value}
            self.facts.first[key] = {host: value, **self.facts.first.get(key, {})}
            self.seen[key, host] = self.version

    def forget(self, key: str, host: str) -> None:
        """What was seen of it is not to be relied on any more."""
        self.seen.pop((key, host), None)
        self.failed.pop((key, host), None)

    def looked(self, key: str, host: str) -> bool:
        """Whether a look has said something since it was forgotten."""
        return (key, host) in self.seen

    def fail(self, key: str, host: str, text: str) -> None:
        """A look that ended badly."""
        self.failed[key, host] = text
        self.seen[key, host] = self.version


def keyed(stages: Iterable[Stage]) -> dict[str, Item]:
    """All steps by "STAGE.STEP", in order."""
    return {f"{stage.name}.{item.name}": item for stage in stages for item in stage.steps}


def snippets(board: Board, items: Mapping[str, Item], host: str) -> tuple[dict[str, ShellLook], dict[str, Item]]:
    """The Shell looks among `items` that can be made on `host` now; and the items for read_api(), once these are made.

    What goes to the API, or waits, is asked anew then: what it looks at may depend on what the shell finds. What needs no
    reading is stored at once.
    """
    found: dict[str, ShellLook] = {}
    rest: dict[str, Item] = {}
    for key, item in items.items():
        look = _look(board, key, item, host)
        if isinstance(look, Constant):
            board.store(key, host, look.value)
        elif isinstance(look, ShellLook):
            found[key] = look
        else:
            rest[key] = item
    return found, rest


def _look(board: Board, key: str, item: Item, host: str) -> Look | None:
    """What `item` looks at on `host`; None, which the board notes, while that isn't known, or can't be said."""
    try:
        return item.look(board.context(host))
    except NotYetKnown as unknown:
        board.waits[key, host] = unknown.stage
    except Exception as error:  # noqa: BLE001  # whatever was found there before, it is that host's look alone that fails
        board.fail(key, host, unread(host, key, error))
    return None


def ready(board: Board, items: Mapping[str, Item], host: str) -> dict[str, Item]:
    """Those of `items` that waited on `host` for something which is known by now."""
    waiting = {key: item for key, item in items.items() if not board.looked(key, host) and (key, host) in board.waits}
    return {key: item for key, item in waiting.items() if _possible(item, board.context(host))}


def _possible(item: Item, ctx: StepContext) -> bool:
    try:
        item.look(ctx)
    except NotYetKnown:
        return False
    except Exception:  # noqa: BLE001  # it is made, and that says what is wrong
        return True
    return True


def read_shell(board: Board, host: str, looks: Mapping[str, ShellLook], seen: Mapping[str, Frame], err: str) -> None:
    """Parse the frames of `looks` into the board."""
    for key, look in looks.items():
        frame = seen.get(key)
        if frame is None:
            board.fail(key, host, f"the look at {key} never ended{': ' + err if err else ''}")
        elif frame.code != 0:
            board.fail(key, host, f"the look at {key} ended with exit code {frame.code}: {_last(frame.err)}")
        else:
            _parse(board, key, host, look, frame)


def _parse(board: Board, key: str, host: str, look: ShellLook, frame: Frame) -> None:
    try:
        value = look.parse(frame.out)
    except Exception as error:  # noqa: BLE001  # whatever a host answers, it is that host's look alone that fails
        board.fail(key, host, unread(host, key, error))
    else:
        board.store(key, host, value)


def unread(host: str, key: str, error: Exception) -> str:
    """That what a look brought can't be parsed, in words; a defect of ours shows by the error's name."""
    return (
        f"{host} answered what could not be read: the look at {key} ended in {type(error).__name__}: {str(error)[:300]}"
    )


def _last(text: bytes) -> str:
    return "\n".join(tail(text, lines=5))


def read_api(board: Board, host: str, items: Mapping[str, Item], cluster: Callable[[], Cluster]) -> None:
    """Make the looks among `items` that go to the Kubernetes API. One that the server refuses has failed alone.

    Raises ClusterError where the server isn't reached at all.
    """
    for key, item in items.items():
        look = _look(board, key, item, host)
        if isinstance(look, ApiLook):
            try:
                board.store(key, host, look.read(cluster()))
            except ClusterError as error:
                if not error.status:
                    raise
                board.fail(key, host, f"the look at {key} was refused by the API server: {error}")
            except MALFORMED as error:
                board.fail(key, host, unread(host, key, error))


def script(looks: Mapping[str, ShellLook], mark: str) -> str:
    """All of `looks` as one script; see frames."""
    return frames.compose({key: look.script for key, look in looks.items()}, mark)


def of_role(items: Mapping[str, Item], role: str) -> dict[str, Item]:
    """Those that are made on hosts of `role`."""
    return {key: item for key, item in items.items() if item.role == role}


def stale(board: Board, keys: Sequence[str], host: str, needs: Iterable[str]) -> bool:
    """Whether one of `keys` was never seen on `host`, or something that it builds on has changed since."""
    newest = max((board.changed.get(stage, 0) for stage in needs), default=0)
    return any(board.seen.get((key, host), -1) < newest for key in keys)
