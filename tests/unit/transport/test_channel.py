"""How long the reader waits for a script's output after the script's end, on a fake channel."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import pytest

from dws_on_csm.transport import channel as transport_channel
from dws_on_csm.transport.channel import Exchange
from dws_on_csm.transport.output import Stream

if TYPE_CHECKING:
    from dws_on_csm.transport.link import Channel


@dataclass
class Ended:
    """A channel whose script has ended; at the check number `late` the rest of its output comes, and its end."""

    late: int
    looks: int = 0
    closed: bool = False
    rest: bytes = b"the rest\n"

    @property
    def eof_received(self) -> bool:
        self.looks += 1
        return self.looks >= self.late

    def exit_status_ready(self) -> bool:
        return True

    def recv_ready(self) -> bool:
        return bool(self.rest) and self.looks >= self.late

    def recv(self, size: int) -> bytes:
        rest, self.rest = self.rest, b""
        return rest

    def recv_stderr_ready(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        return False


@pytest.fixture
def talk() -> Exchange:
    """An exchange whose script has begun."""
    begun = Exchange(Stream("token", "key", None), Stream("token", "key", None))
    begun.out.feed(b"token 7\n")
    return begun


def read(channel: Ended, talk: Exchange) -> bool:
    """Whether a script ended within ten minutes."""
    return transport_channel.read_until(cast("Channel", channel), talk, time.monotonic() + 600, lambda: True)


def test_what_comes_after_a_standstill_is_read(talk: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds in which this machine was suspended do not count as quiet: the reader still waits for the rest."""
    clock = itertools.count(time.monotonic(), 4)
    monkeypatch.setattr(transport_channel, "PULSE", 0.01)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    assert read(Ended(late=3), talk)
    assert talk.out.content() == b"the rest\n"


def test_an_output_that_is_held_open_is_not_waited_for_to_its_end(
    talk: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A background process that writes nothing does not delay the end."""
    monkeypatch.setattr(transport_channel, "PULSE", 0.01)
    channel = Ended(late=1000)
    assert read(channel, talk)
    assert channel.looks == transport_channel.DRAIN + 1 and talk.out.content() == b""
