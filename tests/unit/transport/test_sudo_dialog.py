"""What sudo asks before a script begins, and what is answered."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

import pytest

from dws_on_csm.model.errors import SudoRefused
from dws_on_csm.model.secret import Secret
from dws_on_csm.transport import sudo
from dws_on_csm.transport.sudo import PAUSE, Dialog

HANG = 30.0
"""Seconds after which what should have happened never will."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, as a list of one number that a test changes."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def dialog() -> Dialog:
    return Dialog("token", lambda user, text: Secret(f"{user}|{text}".encode()))


def answer(secret: Secret | None) -> bytes:
    return secret.reveal() if secret else b""


def test_the_account_of_the_prompt_decides() -> None:
    """sudo's prompt names an account, and that account's password is the answer, once."""
    talk = dialog()
    assert answer(talk.feed(b"a lecture\ntoken asks ro")) == b""
    assert answer(talk.feed(b"a lecture\ntoken asks root:")) == b"root|"
    assert answer(talk.feed(b"a lecture\ntoken asks root:\n")) == b""
    assert (talk.asked, talk.refused, talk.question) == ("root", False, "")


@pytest.mark.parametrize(
    ("between", "refused", "question"),
    [
        (b"\nSorry, try again.\n", True, ""),
        (b"\n", False, "a second password of root"),
        (b"", False, "a second password of root"),
    ],
)
def test_the_same_prompt_again(between: bytes, refused: bool, question: str) -> None:
    """With an explanation the password was wrong; without one sudo wants another one: that is no wrong password."""
    talk = dialog()
    talk.feed(b"token asks root:")
    assert answer(talk.feed(b"token asks root:" + between + b"token asks root:")) == b""
    assert (talk.refused, talk.question) == (refused, question)


def test_a_code_is_a_question_of_its_own(clock: list[float]) -> None:
    """A line without end, after which nothing comes, is a question. One for a code is not answered, and is reported."""
    talk = dialog()
    talk.feed(b"token asks me:")
    text = b"token asks me:\nVerification code: "
    assert answer(talk.feed(text)) == b"" and not talk.question
    clock[0] += PAUSE + 1
    assert answer(talk.feed(text)) == b""
    assert (talk.refused, talk.question) == (False, "Verification code:")


def test_a_password_that_a_module_asks_for_is_answered_once(clock: list[float]) -> None:
    """A module's own question for a password is put to the person in its words; a second one is not answered."""
    talk = dialog()
    text = b"Password for me@REALM: "
    talk.feed(text)
    clock[0] += PAUSE + 1
    assert answer(talk.feed(text)) == b"|Password for me@REALM:"
    talk.feed(text + b"\nNew password: ")
    clock[0] += PAUSE + 1
    assert answer(talk.feed(text + b"\nNew password: ")) == b""
    assert talk.question == "New password:"


@pytest.mark.parametrize(
    "prompt",
    [b"One-time password (OATH) for `me': ", b"One time password: ", b"Your OTP password: ", b"Token password: "],
)
def test_a_one_time_password_is_a_code(clock: list[float], prompt: bytes) -> None:
    """Words of PAM modules for what is right only once, on one host: it is not asked for as if it served all hosts."""
    talk = dialog()
    talk.feed(prompt)
    clock[0] += PAUSE + 1
    assert answer(talk.feed(prompt)) == b""
    assert (talk.asked, talk.question) == ("", prompt.decode().strip())


def test_each_question_is_asked_once_a_run() -> None:
    """Accounts have passwords of their own, and each is asked for once, whichever hosts want it."""
    asked: list[str] = []

    def ask(question: sudo.Question) -> str:
        asked.append(f"{question.host} {question.user}")
        return question.user

    password = sudo.Password(ask)
    for host, user in (("a", "root"), ("b", "root"), ("a", "me"), ("c", "me")):
        assert password.get(sudo.Question(host, user)).reveal() == user.encode()
        password.tried()
    assert asked == ["a root", "a me"]


def test_a_wrong_answer_is_asked_for_again_up_to_three_times() -> None:
    """As sudo does; after the last one no other host tries, since that would lock the account. The host that refused is named,
    to the person who is asked again through another host, too."""
    asked: list[tuple[str, str]] = []

    def ask(question: sudo.Question) -> str:
        asked.append((question.host, question.refused_by))
        return str(len(asked))

    password, (a, b) = sudo.Password(ask, sudo.TRIES), (sudo.Question("a", "me"), sudo.Question("b", "me"))
    first = password.get(a)
    assert password.rejected(a, first) and password.get(a).reveal() == b"2"
    assert password.rejected(a, password.get(a))
    password.tried()
    assert password.get(b).reveal() == b"3" and not password.rejected(b, password.get(b))
    password.tried()
    for question, words in (
        (a, "sudo on b did not accept the password of me, and it was not tried here"),
        (b, "it was not tried again"),
    ):
        with pytest.raises(SudoRefused, match=words):
            password.get(question)
    assert asked == [("a", ""), ("a", "a"), ("b", "a")]


def others(password: sudo.Password, hosts: Iterable[str], seen: list[bytes]) -> list[threading.Thread]:
    """Threads in which these hosts want the answer; `seen` gets what they got, and none keeps it from the next one."""

    def want(host: str) -> None:
        seen.append(password.get(sudo.Question(host, "me")).reveal())
        password.tried()

    threads = [threading.Thread(target=want, args=(host,)) for host in hosts]
    for thread in threads:
        thread.start()
    return threads


@pytest.mark.parametrize("right", [True, False])
def test_one_host_tries_an_answer_before_the_others(right: bool) -> None:
    """A mistyped password reaches the sudo of one host; the others get the next one."""
    given = iter(("first", "second"))
    password, seen = sudo.Password(lambda question: next(given), sudo.TRIES), list[bytes]()
    question = sudo.Question("a", "me")
    first = password.get(question)
    threads = others(password, "bcd", seen)
    threads[0].join(0.2)  # they would have it long before
    assert seen == [] and password.get(question) is first
    if right:
        password.accepted(question, first)
    else:
        assert password.rejected(question, first)
    password.tried()
    for thread in threads:
        thread.join(HANG)
    assert seen == [b"first" if right else b"second"] * 3


def test_a_host_that_got_no_verdict_keeps_no_other_one_waiting() -> None:
    """Its connection may break before sudo has said anything."""
    password, seen = sudo.Password(lambda question: "x", sudo.TRIES), list[bytes]()
    password.get(sudo.Question("a", "me"))
    threads = others(password, "b", seen)
    password.tried()
    threads[0].join(HANG)
    assert seen == [b"x"]


def test_a_password_that_another_host_accepts_is_not_forgotten() -> None:
    """Where accounts of one name have several passwords, each host keeps its own."""
    asked: list[str] = []

    def ask(question: sudo.Question) -> str:
        asked.append(question.host)
        return f"of {question.host}"

    password, (a, b) = sudo.Password(ask, sudo.TRIES), (sudo.Question("a", "me"), sudo.Question("b", "me"))
    of_a = password.get(a)
    password.accepted(a, of_a)
    assert password.rejected(b, password.get(b))
    assert (password.get(b).reveal(), password.get(a)) == (b"of b", of_a)
    assert asked == ["a", "b"]


def test_scripts_of_one_host_try_one_after_the_other() -> None:
    """Also where another host has accepted the answer: its accounts may be others, and as many wrong ones lock them."""
    password, seen = sudo.Password(lambda question: "x", sudo.TRIES), list[bytes]()
    first = password.get(sudo.Question("a", "me"))
    threads = others(password, "a", seen)
    threads[0].join(0.2)
    assert seen == []
    password.accepted(sudo.Question("a", "me"), first)
    threads[0].join(HANG)
    assert seen == [b"x"] and password.get(sudo.Question("b", "me")) is first
    threads = others(password, "bc", seen)
    threads[1].join(HANG)
    threads[0].join(0.2)
    assert seen == [b"x"] * 2
    password.tried()
    threads[0].join(HANG)
    assert seen == [b"x"] * 3


def test_hosts_whose_sudo_says_nothing_end_the_trials(clock: list[float]) -> None:
    """Where all hosts wait for a name server that is gone, the run does not wait for each of them in turn."""
    password = sudo.Password(lambda question: "x")
    for host in "ab":
        password.get(sudo.Question(host, "me"))
        clock[0] += 60
        password.tried()
    with pytest.raises(SudoRefused, match="sudo on a, b has not said whether it accepts the password"):
        password.get(sudo.Question("c", "me"))


def test_when_the_run_stops_nobody_waits_for_another_hosts_trial() -> None:
    """Nobody is asked then, and what a host has accepted still serves: scripts that run have to be ended."""
    password, refused = sudo.Password(lambda question: question.user), list[str]()
    mine = password.get(sudo.Question("a", "me"))
    password.accepted(sudo.Question("a", "me"), mine)
    password.get(sudo.Question("a", "you"))

    def want() -> None:
        with pytest.raises(SudoRefused) as caught:
            password.get(sudo.Question("b", "you"))
        refused.append(caught.value.text)

    thread = threading.Thread(target=want)
    thread.start()
    thread.join(0.2)
    password.stop()
    thread.join(HANG)
    assert ["while the run was stopping" in text for text in refused] == [True]
    assert password.get(sudo.Question("a", "me")) is mine
    with pytest.raises(SudoRefused, match="while the run was stopping"):
        password.get(sudo.Question("a", "root"))


def test_who_is_asked_keeps_the_stop_of_the_run_not_waiting() -> None:
    """A password manager may take a minute."""
    answered, asked = threading.Event(), threading.Event()

    def ask(question: sudo.Question) -> str:
        asked.set()
        answered.wait(HANG)
        return "x"

    password, seen = sudo.Password(ask), list[bytes]()
    threads = others(password, "a", seen)
    assert asked.wait(HANG)
    began = time.monotonic()
    password.stop()
    assert time.monotonic() - began < HANG / 2
    answered.set()
    threads[0].join(HANG)


def test_a_password_may_be_any_bytes() -> None:
    """A command of the site file may print what is no UTF-8."""
    assert sudo.Password(lambda question: "a\udcffb").get(sudo.Question("a", "me")).reveal() == b"a\xffb"


def test_a_command_is_not_asked_again() -> None:
    """It would print the same, and lock the account."""
    password = sudo.Password(lambda question: "wrong")
    question = sudo.Question("a", "me")
    assert not password.rejected(question, password.get(question))
