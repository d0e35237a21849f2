"""Runs forms: OpenSSH's own client, and the tool, each in a place of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from tests.sites.form import Form, Result
from tests.sites.world import NOBODY, Place, World
from tests.ssh import card
from tests.ssh.server import HANG

T = TypeVar("T")
AT_ONCE = 4
"""Forms at the same time: many of them wait."""


def judged(world: World, forms: Sequence[Form], folder: Path) -> dict[str, Result]:
    """The result of each form by its name. Forms run side by side."""
    tools: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()
    started = [_tool() for _ in range(AT_ONCE)]
    for tool in started:
        tools.put(tool)

    def judge(numbered: tuple[int, Form]) -> Result:
        number, form = numbered
        tool = tools.get()
        try:
            return _judge(world, form, folder / str(number), tool)
        finally:
            tools.put(tool)

    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            slow_first = sorted(enumerate(forms), key=lambda item: -item[1].delay)
            results = list(pool.map(judge, slow_first))
        return {form.name: result for (_, form), result in zip(slow_first, results, strict=True)}
    finally:
        for tool in started:
            assert tool.stdin
            tool.stdin.close()
            tool.wait(HANG)


def _tool() -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.sites.tool"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _judge(world: World, form: Form, folder: Path, tool: subprocess.Popen[str]) -> Result:
    """Both sides at the same time: a form that waits for a touch would else wait twice."""
    with ThreadPoolExecutor(2) as pool:
        theirs = pool.submit(_side, world, form, folder / "ssh", _ssh)
        ours = pool.submit(_side, world, form, folder / "tool", partial(_asked, tool))
        (ssh_in, words), ssh_signatures = theirs.result()
        said, tool_signatures = ours.result()
    cause = " ".join(said["text"].replace(f"{folder / 'tool'}/", "").split())
    return Result(
        ssh_in, said["in"], words, cause, said["fix"], ssh_signatures, tool_signatures, said["stderr"], said["seconds"]
    )


def _side(world: World, form: Form, folder: Path, enter: Callable[[Place], T]) -> tuple[T, int]:
    """What came of one side, and how often its agent signed."""
    place = Place(world, form, folder)
    with place.agent() as agent, _master(place):
        return enter(place), len(agent.signed) if agent else 0


def _ssh(place: Place) -> tuple[bool, str]:
    answer = place.form.answer
    batch = "no" if answer else "yes"
    command = ["ssh", "-F", str(place.config), "-o", f"BatchMode={batch}", "-T", place.form.ask, "echo in"]
    answers = card.askpass(place.folder, answer) if answer else {}
    uid: Any = NOBODY if place.form.user != "root" else None
    more: dict[str, Any] = {"user": uid, "group": uid, "extra_groups": []} if uid else {}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**place.environment(), **answers},
            timeout=HANG,
            check=False,
            **more,
        )
    except subprocess.TimeoutExpired:
        return False, "timed out"
    return done.stdout == b"in\n", done.stderr.decode(errors="replace").strip()


def _asked(tool: subprocess.Popen[str], place: Place) -> dict[str, Any]:
    form = place.form
    request = {
        "config": str(place.config),
        "ask": form.ask,
        "env": place.environment(),
        "uid": NOBODY if form.user != "root" else 0,
        "connect": form.connect,
        "answer": form.answer,
    }
    assert tool.stdin
    assert tool.stdout
    tool.stdin.write(json.dumps(request) + "\n")
    tool.stdin.flush()
    answer: dict[str, Any] = json.loads(tool.stdout.readline())
    return answer


@contextmanager
def _master(place: Place) -> Iterator[None]:
    """A master connection that was opened with another key, as a person does with a second factor."""
    if not place.form.master:
        yield
        return
    key = place.filled("{key:second}")
    words = ["ssh", "-F", str(place.config), "-i", key, "-o", "BatchMode=yes"]
    subprocess.run(
        [*words, "-M", "-N", "-f", place.form.ask],
        check=True,
        timeout=HANG,
        capture_output=True,
        env=place.environment(),
    )
    try:
        yield
    finally:
        subprocess.run(
            [*words, "-O", "exit", place.form.ask],
            check=False,
            timeout=HANG,
            capture_output=True,
            env=place.environment(),
        )
