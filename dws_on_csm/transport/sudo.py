"""Root's rights for scripts where the login's user is not root: how sudo is called, and what it asks."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from dws_on_csm.model.secret import Secret


@dataclass(frozen=True)
class Question:
    """What sudo on `host` asks: the password of the account `user`; or, where `user` is "", in its own words, `text`.

    `again`: sudo there did not accept the former answer.
    """

    host: str
    user: str
    text: str = ""
    again: bool = False


AskPassword = Callable[[Question], str]
"""The answer, from a person. Raises SudoRefused where it can't ask."""


@dataclass(frozen=True)
class Rights:
    """How a script gets its rights: the words before its command, for a token. `asks`: they may ask for a password, on stderr.
    `terminal`: they get a terminal of their own, beside their input and outputs.
    """

    words: Callable[[str], tuple[str, ...]] = lambda token: ()
    asks: bool = False
    terminal: bool = False


NONE = Rights()
_SUDO = ("-H", "-u", "root", "--")  # the account's own home, and not an account of runas_default


def _asking(token: str) -> tuple[str, ...]:
    """sudo that reads a password from stdin after a prompt with the account whose password that is: %p, with targetpw, rootpw or
    runaspw another than the user's. (-p would also replace what PAM's modules ask, as for a code; the variable does not.)
    """
    return ("env", f"SUDO_PROMPT={token} asks %p:", "sudo", "-S", *_SUDO)


WAYS: tuple[Rights, ...] = (
    Rights(lambda token: ("sudo", "-n", *_SUDO)),
    Rights(_asking, asks=True),
    Rights(_asking, asks=True, terminal=True),
)
"""The ways to call sudo, in the order in which they are tried: it never asks; it asks; it asks, and has a terminal of its own,
which requiretty demands, while its input and outputs stay what they are."""
REFUSED = 1
"""sudo's own exit code."""


TRIES = 3
"""So often a person is asked for a password, as sudo does."""


class Password:
    """The answers of a run: each question is asked once, when the first host needs the answer, and the answer serves all hosts.

    After a wrong answer the question is asked again, up to `tries` times in all. Where an answer was right on one host and is wrong
    on another, that one gets an answer of its own. `each`: each host has its own answers from the beginning.
    """

    def __init__(self, ask: AskPassword, tries: int = 1, each: bool = False) -> None:
        self._ask = ask
        self._tries = tries
        self._each = each
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str, str], Secret] = {}
        self._asked: Counter[tuple[str, str, str]] = Counter()
        self._right: list[Secret] = []
        self._apart: set[str] = set()

    def _key(self, question: Question) -> tuple[str, str, str]:
        apart = self._each or question.host in self._apart
        return question.host if apart else "", question.user, question.text

    def get(self, question: Question) -> Secret:
        """The answer. Raises what AskPassword raises."""
        with self._lock:
            key = self._key(question)
            if key not in self._known:
                again = replace(question, again=self._asked[key] > 0)
                self._known[key] = Secret(self._ask(again).encode())
                self._asked[key] += 1
            return self._known[key]

    def accepted(self, secret: Secret) -> None:
        """Note that sudo accepted this answer of get()."""
        with self._lock:
            if not any(secret is right for right in self._right):
                self._right.append(secret)

    def rejected(self, question: Question, secret: Secret) -> bool:
        """Note that sudo did not accept this answer of get(). Whether get() may have another one."""
        with self._lock:
            key = self._key(question)
            if self._known.get(key) is not secret:  # another host has found that out
                return True
            if any(secret is right for right in self._right):
                self._apart.add(question.host)
                key = self._key(question)
                self._asked[key] = 1
            else:
                del self._known[key]
            return self._asked[key] < self._tries


Answer = Callable[[str, str], Secret]
"""The answer to a Question with this `user` and `text`. Raises what AskPassword raises."""

PAUSE = 5.0
"""Seconds for which sudo has written nothing after a line without end: that line is a question."""
_PASSWORD = re.compile(rb"password|passphrase", re.IGNORECASE)


class Dialog:
    """What sudo asks on stderr before it starts the script, and the answer to its first question, if that is for a password.

    `asked` is whose password that was, or the question itself. `refused`: the same question came again, with an explanation.
    `question`: another question came, in sudo's words.
    """

    def __init__(self, token: str, answer: Answer) -> None:
        self._answer = answer
        self._prompt = re.compile(rb"%b asks ([^:\n]*):" % token.encode())
        self._handled = 0
        self._last = b""
        self._since = 0.0
        self.asked = ""
        self.refused = False
        self.question = ""

    def feed(self, text: bytes) -> Secret | None:
        """The answer that is due, now that sudo has written `text`, all in all."""
        if prompt := self._prompt.search(text, self._handled):
            between, self._handled = text[self._handled : prompt.start()].strip(), prompt.end()
            user = prompt[1].decode(errors="replace")
            if not self.asked:
                return self._answered(user, "")
            # PAM says why it asks again, and says nothing where it asks for something else
            self.refused = bool(between)
            self.question = "" if between else f"a second password of {user}"
            return None
        return self._foreign(text[self._handled :].rpartition(b"\n")[2].strip(), len(text))

    def _foreign(self, line: bytes, handled: int) -> Secret | None:
        """The answer to a question that is not sudo's own but a PAM module's: a line without end, with nothing after it."""
        if line != self._last:
            self._last, self._since = line, time.monotonic()
        if not line or time.monotonic() - self._since < PAUSE:
            return None
        self._handled, text = handled, line.decode(errors="replace")
        if not self.asked and _PASSWORD.search(line):
            return self._answered("", text)
        self.refused = text == self.asked
        self.question = "" if self.refused else text
        return None

    def _answered(self, user: str, text: str) -> Secret:
        self.asked = user or text
        return self._answer(user, text)
