"""Reading the hosts: all shell looks of a host in one exec, those of the Kubernetes API through its client.

In that exec each snippet runs in its own subshell, and what it prints is framed by a marker that no file's content can contain.
What several snippets begin with, their library, runs once for them: slurm.conf is read once, not once for each check.
The board stores what the looks returned, and knows which of it is out of date.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import MappingProxyType

from dws_on_csm.config.site import Site
from dws_on_csm.engine.early_reads import EarlyReads
from dws_on_csm.engine.reach import Reach
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
    Value,
)
from dws_on_csm.transport.output import tail

Item = Step | Check


@dataclass(frozen=True)
class FailureReason:
    """Why a look failed.

    text     with the look's name, exit code and last words
    fix      what to do about it, "" if that is unknown
    cluster  the API server failed, not the host
    """

    text: str
    fix: str = ""
    cluster: bool = False


class LookFailed(Exception):
    """A look failed for this reason, which is also the message."""

    def __init__(self, reason: FailureReason) -> None:
        super().__init__(reason.text)
        self.reason = reason

    @property
    def fix(self) -> str:
        """What to do about it, "" if that is unknown."""
        return self.reason.fix


# --- what is known


@dataclass
class Board:
    """What is known of each step on each host, and since when.

    seen     the version at which a look was made
    failed   the looks that failed
    waits    the stage that must run before a look can be made
    changed  the version at which a stage last changed something
    version  the number of changes so far; a look is stale once a stage that it builds on has changed something since
    """

    site: Site
    facts: Facts = field(default_factory=Facts)
    seen: dict[tuple[str, str], int] = field(default_factory=dict)
    failed: dict[tuple[str, str], FailureReason] = field(default_factory=dict)
    waits: dict[tuple[str, str], str] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    version: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def context(self, host: str) -> StepContext:
        """What a step on `host` is given."""
        return StepContext(self.site, self.facts, host)

    def note(self, stage: str) -> None:
        """Record that `stage` has just changed something."""
        with self.lock:
            self.version += 1
            self.changed[stage] = self.version

    def have(self, key: str, host: str) -> object:
        """What the look of `STAGE.STEP` returned on `host`. Raises NotYetKnown if it was not made, LookFailed if it failed."""
        if failed := self.failed.get((key, host)):
            raise LookFailed(failed)
        if (key, host) not in self.seen:
            raise NotYetKnown(self.waits.get((key, host), key.partition(".")[0]))
        return self.facts.found[key][host]

    def store(self, key: str, host: str, value: object, version: int | None = None) -> None:
        """Store the result of a look that was made at `version`, or just now; a thread that iterates over the facts of other hosts
        meanwhile keeps the former ones."""
        with self.lock:
            self.failed.pop((key, host), None)
            self.facts.found[key] = {**self.facts.found.get(key, {}), host: value}
            self.facts.first[key] = {host: value, **self.facts.first.get(key, {})}
            self.seen[key, host] = self.version if version is None else version

    def forget(self, key: str, host: str) -> None:
        """Require a new look."""
        self.seen.pop((key, host), None)
        self.failed.pop((key, host), None)

    def looked(self, key: str, host: str) -> bool:
        """Whether a look was made since it was forgotten, and returned or failed."""
        return (key, host) in self.seen

    def fail(self, key: str, host: str, text: str, fix: str = "", *, cluster: bool = False) -> None:
        """Record why a look failed: see FailureReason."""
        self.failed[key, host] = FailureReason(text, fix, cluster)
        self.seen[key, host] = self.version


def keyed(stages: Iterable[Stage]) -> dict[str, Item]:
    """All steps and checks by "STAGE.STEP", in order."""
    return {f"{stage.name}.{item.name}": item for stage in stages for item in stage.steps}


def stale(board: Board, keys: Sequence[str], host: str, needs: Iterable[str]) -> bool:
    """Whether one of `keys` was never read on `host`, or a stage in `needs` has changed something since."""
    newest = max((board.changed.get(stage, 0) for stage in needs), default=0)
    return any(board.seen.get((key, host), -1) < newest for key in keys)


# --- making looks


def snippets(board: Board, items: Mapping[str, Item], host: str) -> tuple[dict[str, ShellLook], dict[str, Item]]:
    """The shell looks of `items` that can be made on `host` now; and the items for read_api(), to be called afterwards.

    These are asked for their looks again then, as they may depend on what the shell looks return. So may a constant, which is
    stored at once for looks that need it, and again then.
    """
    shell: dict[str, ShellLook] = {}
    rest: dict[str, Item] = {}
    for key, item in items.items():
        look = _look(board, key, item, host)
        if isinstance(look, Constant):
            board.store(key, host, look.value)
        if isinstance(look, ShellLook):
            shell[key] = look
        else:
            rest[key] = item
    return shell, rest


def _look(board: Board, key: str, item: Item, host: str) -> Look | None:
    """The look of `item` on `host`; None, which the board notes, where it needs a fact that is not known yet, or fails."""
    try:
        return item.look(board.context(host))
    except NotYetKnown as unknown:
        board.waits[key, host] = unknown.stage
    except Exception as error:  # noqa: BLE001  # unexpected facts of one host must fail that host's look alone
        board.fail(key, host, unreadable(host, key, error))
    return None


def ready(board: Board, items: Mapping[str, Item], host: str) -> dict[str, Item]:
    """Those of `items` whose looks waited on `host` for facts that are known by now."""
    waiting = {key: item for key, item in items.items() if not board.looked(key, host) and (key, host) in board.waits}
    return {key: item for key, item in waiting.items() if _possible(item, board.context(host))}


def _possible(item: Item, ctx: StepContext) -> bool:
    try:
        item.look(ctx)
    except NotYetKnown:
        return False
    except Exception:  # noqa: BLE001  # it is made, and that reports the error
        return True
    return True


def read_shell(board: Board, host: str, looks: Mapping[str, ShellLook], frames: Mapping[str, Frame], err: str) -> None:
    """Parse the frames of `looks` and store what they return; `err`: the last words of a script that did not finish."""
    for key, look in looks.items():
        frame = frames.get(key)
        if frame is None:
            board.fail(key, host, f"the check {key} did not finish{': ' + err if err else ''}")
        elif frame.code != 0:
            words = "\n".join(tail(frame.err, lines=5))
            board.fail(key, host, f"the check {key} ended with exit code {frame.code}: {words}")
        else:
            _parse(board, key, host, look, frame)


def _parse(board: Board, key: str, host: str, look: ShellLook, frame: Frame) -> None:
    try:
        value = look.parse(frame.out)
    except Exception as error:  # noqa: BLE001  # unexpected output of one host must fail that host's look alone
        board.fail(key, host, unreadable(host, key, error))
    else:
        board.store(key, host, value)


def unreadable(host: str, key: str, error: Exception) -> str:
    """That the answer of a look can't be parsed, in words, with the error: it may be a defect of ours."""
    return (
        f"the answer of {host} could not be read: the check {key} ended in {type(error).__name__}: {str(error)[:300]}"
    )


def read_api(
    board: Board,
    host: str,
    items: Mapping[str, Item],
    cluster: Callable[[], Cluster],
    early: Mapping[str, Future[Value]] = MappingProxyType({}),
    version: int | None = None,
) -> None:
    """Make the looks among `items` that go to the Kubernetes API, and store constants. A refusal by the server fails that look
    alone.

    Of those in `early` it is known what came of them: they were made when the board had `version`.

    Raises ClusterError where the server can't be reached.
    """
    for key, item in items.items():
        look = _look(board, key, item, host)
        if isinstance(look, Constant):
            board.store(key, host, look.value)
        elif isinstance(look, ApiLook):
            try:
                if answer := early.get(key):
                    board.store(key, host, answer.result(), version)
                else:
                    board.store(key, host, look.read(cluster()))
            except ClusterError as error:
                if not error.status:
                    raise
                broken = error.status >= 500  # as where etcd does not respond to it
                board.fail(key, host, f"the check {key} was refused by the API server: {error}", cluster=broken)
            except MALFORMED as error:
                board.fail(key, host, unreadable(host, key, error))


def refresh(reach: Reach, board: Board, host: str, items: Mapping[str, Item]) -> None:
    """Make the looks of `items` on this host: those by shell in one exec, those of the API through its client; meanwhile, where
    they need no fact, and otherwise after it."""
    looks, left = snippets(board, items, host)
    if not looks:
        read_api(board, host, left, reach.cluster)
        return
    version = board.version
    early = EarlyReads(board.site, host, left, reach.cluster)
    try:
        mark = marker()
        answer = reach.session(host).run(script(looks, mark), deadline=board.site.deadlines.look)
        seen = split(answer.out, answer.err, mark)
        read_shell(board, host, looks, seen, last_words(answer.err, mark) if answer.code else "")
        read_api(board, host, left, reach.cluster, early.all(), version)
    finally:
        early.over()


# --- many looks in one exec


@dataclass(frozen=True)
class Frame:
    """What one snippet printed on its standard output and on standard error, and its exit code."""

    out: bytes
    err: bytes
    code: int


def marker() -> str:
    """A new marker; 128 random bits, so that no file's content can pass for a frame."""
    return f"--dws-on-csm-{secrets.token_hex(16)}"


def script(looks: Mapping[str, ShellLook], mark: str) -> str:
    """A script for `sh` that runs every look, whether or not others fail; their keys name the frames.

    Looks with the same library run in one subshell, behind it. If it fails, its frame is that of each of them. A library that
    begins with another one continues it: it runs in a subshell of that one's.
    """
    return _behind("", looks, mark) + "\n"


def _behind(above: str, looks: Mapping[str, ShellLook], mark: str) -> str:
    """The frames of looks whose libraries all begin with `above`, which has run."""
    longer = sorted({look.library for look in looks.values() if look.library != above}, key=len)
    groups: dict[str, dict[str, ShellLook]] = {}
    for key, look in looks.items():
        library = next((one for one in longer if look.library.startswith(one)), "")
        groups.setdefault(library, {})[key] = look
    parts: list[str] = []
    for library, members in groups.items():
        if not library or len(members) == 1:
            parts += [_framed(key, look.script.removeprefix(above), mark) for key, look in members.items()]
        else:
            content = f"{library.removeprefix(above)}\n{_ended(mark, '0')}\n{_behind(library, members, mark)}\nexit 0"
            parts.append(_framed(" ".join(members), content, mark, "|| "))
    return "\n".join(parts)


def _framed(name: str, snippet: str, mark: str, before: str = "\n") -> str:
    begin = f"printf '\\n%s\\n' '{mark} {name}'"
    return f"{begin}; {begin} >&2\n(\n{snippet}\n) </dev/null{before}{_ended(mark, '$?')}"


def _ended(mark: str, code: str) -> str:
    return f"printf '\\n%s %d\\n' '{mark} =' {code}"


def split(out: bytes, err: bytes, mark: str) -> dict[str, Frame]:
    """The frames that script() printed, by the look's key; a snippet that did not finish is left out.

    A library's frame has the keys of all looks that build on it for a name: it is theirs if the library failed.
    """
    errors = dict(_sections(err, mark))
    frames: dict[str, Frame] = {}
    name, text = "", b""
    for title, content in _sections(out, mark):
        if title.startswith("= "):
            code = title[2:]
            if code.isascii() and code.isdigit() and len(code) < 4 and (" " not in name or int(code)):
                frames |= dict.fromkeys(name.split(" "), Frame(text, errors.get(name, b""), int(code)))
        else:
            name, text = title, content
    return frames


def last_words(err: bytes, mark: str) -> str:
    """What the snippet that ran last, or `sh` itself, wrote to standard error."""
    words = (_sections(err, mark) or [("", err)])[-1][1]
    return words.decode(errors="replace").strip()[-500:]


def _sections(stream: bytes, mark: str) -> list[tuple[str, bytes]]:
    parts = re.split(rb"\n" + re.escape(mark.encode()) + rb" ([^\n]+)\n", stream)
    return [(parts[i].decode(errors="replace"), parts[i + 1]) for i in range(1, len(parts) - 1, 2)]
