"""Root's rights for scripts where the login's user is not root: how sudo is called, and what it asks."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from dws_on_csm.model.errors import SudoRefused
from dws_on_csm.model.secret import Secret


@dataclass(frozen=True)
class Question:
    """What sudo on `host` asks: the password of the account `user`; or, where `user` is "", in its own words, `text`.

    `refused_by`: the host whose sudo did not accept the former answer; "" for the first one.
    """

    host: str
    user: str
    text: str = ""
    refused_by: str = ""


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


FIX_OF_REFUSAL = (
    "run the same command again, with the right password, or correct ssh.sudo_password_command in the site file"
)
"""The fix where sudo did not accept a password."""


def what_sudo_waits_for(host: str) -> str:
    """The fix where sudo gives no answer."""
    return f"run `ssh -t {host} sudo true`, and find out what sudo waits for (a name server, PAM)"


TRIES = 3
"""So often a person is asked for a password, as sudo does."""


SILENCE = 90.0
"""Seconds in all for which hosts tried an answer without saying whether it is right; then no further host tries it."""

Key = tuple[str, str, str]
"""A question: the host ("" for all hosts), the account, and the question's own text."""


@dataclass
class Trial:
    """A script that tries an answer: its thread, its host, since when (of time.monotonic), and whether sudo has decided."""

    thread: int
    host: str
    since: float
    decided: bool = False


class Password:
    """The answers of a run: each question is asked once, when the first host needs the answer, and the answer serves all hosts.

    Before one host's sudo has accepted it, no other script gets it, on this or another host: a wrong password that all of them
    try locks the account. For the same reason the scripts of one host try one after the other what only other hosts have
    accepted. After a wrong answer the question is asked again, up to `tries` times in all; then no other host tries. Where an
    answer was right on one host and is wrong on another, that one gets an answer of its own. `each`: each host has its own
    answers from the beginning.

    A script calls these methods in its own thread.
    """

    def __init__(self, ask: AskPassword, tries: int = 1, each: bool = False) -> None:
        self._ask = ask
        self._tries = tries
        self._each = each
        self._turn = threading.Condition()
        self._asking = threading.Lock()  # of its own: who waits for an answer must not keep stop() waiting
        self._known: dict[Key, Secret] = {}
        self._asked: Counter[Key] = Counter()
        self._right: list[tuple[str, Secret]] = []
        self._apart: set[str] = set()
        self._refused_by: dict[Key, str] = {}
        self._trials: dict[Key, Trial] = {}
        self._silent: dict[Key, dict[str, float]] = {}
        self._stopped = False

    def _key(self, question: Question) -> Key:
        apart = self._each or question.host in self._apart
        return question.host if apart else "", question.user, question.text

    def _queue(self, question: Question) -> Key | None:
        """What scripts that need the answer pass one by one; None where sudo on this host has accepted it."""
        secret = self._known.get(self._key(question))
        if secret is None or not self._is_right(secret):
            return self._key(question)
        return None if self._is_right(secret, question.host) else (question.host, question.user, question.text)

    def _is_right(self, secret: Secret, on: str = "") -> bool:
        return any(secret is right and on in ("", host) for host, right in self._right)

    def get(self, question: Question) -> Secret:
        """The answer, once no other script tries it. Raises what AskPassword raises, and SudoRefused after the last wrong one."""
        thread = threading.get_ident()

        def is_free() -> bool:
            queue = self._queue(question)
            trial = self._trials.get(queue) if queue else None
            return not trial or trial.thread == thread or (self._stopped and queue == self._key(question))

        with self._turn:
            self._turn.wait_for(is_free)
            if not (queue := self._queue(question)):
                return self._known[self._key(question)]
            key = self._key(question)
            if queue == key:
                self._refuse(question, key)
            self._trials[queue] = trial = Trial(thread, question.host, time.monotonic())
            if key in self._known:
                return self._known[key]
            asked = replace(question, refused_by=self._refused_by.get(key, ""))
        try:
            with self._asking:
                # bytes that are no UTF-8 are kept: a command of the site file may print any
                answer = Secret(self._ask(asked).encode(errors="surrogateescape"))
        except BaseException:
            with self._turn:
                self._end_trials()
            raise
        with self._turn:
            self._known[key] = answer
            self._asked[key] += 1
            trial.since = time.monotonic()  # a person may have thought about it
            return answer

    def _refuse(self, question: Question, key: Key) -> None:
        """Raises SudoRefused where this host does not try an answer that no host has accepted."""
        if self._stopped:
            text = "sudo asked for a password while the run was stopping, and none was sent"
            raise SudoRefused(question.host, text, "run the same command again")
        if key not in self._known and self._asked[key] >= self._tries:
            raise _not_tried(question, self._refused_by.get(key, question.host))
        silent = self._silent.get(key, {})
        if sum(silent.values()) > SILENCE:
            hosts = ", ".join(silent)
            text = f"sudo on {hosts} has not said whether it accepts the password, so the password was not tried here"
            raise SudoRefused(question.host, text, what_sudo_waits_for(next(iter(silent))))

    def accepted(self, question: Question, secret: Secret) -> None:
        """Note that sudo accepted this answer of get(): other hosts may have it."""
        with self._turn:
            if not self._is_right(secret, question.host):
                self._right.append((question.host, secret))
            self._end_trials()

    def rejected(self, question: Question, secret: Secret) -> bool:
        """Note that sudo did not accept this answer of get(). Whether get() may have another one, before other scripts have it."""
        with self._turn:
            key = self._key(question)
            for trial in self._own_trials().values():
                trial.decided = True
            if self._known.get(key) is not secret:  # another script has found that out
                return True
            if self._is_right(secret):
                self._apart.add(question.host)
                key = self._key(question)
                self._asked[key] = 1
            else:
                del self._known[key]
            self._refused_by[key] = question.host
            return self._asked[key] < self._tries

    def tried(self) -> None:
        """Note that the script of this thread tries no answer any more, whatever came of it: other scripts may continue."""
        with self._turn:
            for key, trial in self._own_trials().items():
                if not trial.decided:
                    silent = self._silent.setdefault(key, {})
                    silent[trial.host] = silent.get(trial.host, 0.0) + time.monotonic() - trial.since
            self._end_trials()

    def stop(self) -> None:
        """From now on nothing is asked, and no script gets an answer that no host has accepted."""
        with self._turn:
            self._stopped = True
            self._turn.notify_all()

    def _own_trials(self) -> dict[Key, Trial]:
        thread = threading.get_ident()
        return {key: trial for key, trial in self._trials.items() if trial.thread == thread}

    def _end_trials(self) -> None:
        for key in self._own_trials():
            del self._trials[key]
        self._turn.notify_all()


def _not_tried(question: Question, refused_by: str) -> SudoRefused:
    whose = f" of {question.user}" if question.user else ""
    here = "again" if refused_by == question.host else "here"
    text = (
        f"sudo on {refused_by} did not accept the password{whose}, and it was not tried {here}: too many wrong ones lock "
        "the account"
    )
    fix = f"{FIX_OF_REFUSAL}; if {refused_by} has another password than the other hosts, set that key to a command with %h"
    return SudoRefused(question.host, text, fix)


Answer = Callable[[str, str], Secret]
"""The answer to a Question with this `user` and `text`. Raises what AskPassword raises."""

PAUSE = 5.0
"""Seconds for which sudo has written nothing after a line without end: that line is a question."""
_PASSWORD = re.compile(rb"password|passphrase", re.IGNORECASE)
_CODE = re.compile(rb"one[- ]?time|\botp\b|\bcode\b|\btoken\b", re.IGNORECASE)
"""What a PAM module asks for that is right only once, as pam_oath's "One-time password (OATH) for `me':"."""


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
        if not self.asked and _PASSWORD.search(line) and not _CODE.search(line):
            return self._answered("", text)
        self.refused = text == self.asked
        self.question = "" if self.refused else text
        return None

    def _answered(self, user: str, text: str) -> Secret:
        self.asked = user or text
        return self._answer(user, text)
