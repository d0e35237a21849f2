"""What sudo asks before a script begins, and what is answered."""

from __future__ import annotations

import time

import pytest

from dws_on_csm.model.secret import Secret
from dws_on_csm.transport import sudo
from dws_on_csm.transport.sudo import PAUSE, Dialog


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


def test_each_question_is_asked_once_a_run() -> None:
    """Accounts have passwords of their own, and each is asked for once, whichever hosts want it."""
    asked: list[str] = []

    def ask(question: sudo.Question) -> str:
        asked.append(f"{question.host} {question.user}")
        return question.user

    password = sudo.Password(ask)
    for host, user in (("a", "root"), ("b", "root"), ("a", "me"), ("c", "me")):
        assert password.get(sudo.Question(host, user)).reveal() == user.encode()
    assert asked == ["a root", "a me"]


def test_a_wrong_answer_is_asked_for_again_up_to_three_times() -> None:
    """As sudo does; hosts that find the same answer wrong count once, and get the next one."""
    asked: list[bool] = []

    def ask(question: sudo.Question) -> str:
        asked.append(question.again)
        return str(len(asked))

    password, (a, b) = sudo.Password(ask, sudo.TRIES), (sudo.Question("a", "me"), sudo.Question("b", "me"))
    first = password.get(a)
    assert password.get(b) is first and password.rejected(a, first) and password.get(a).reveal() == b"2"
    assert password.rejected(b, first) and password.get(b).reveal() == b"2"
    assert password.rejected(b, password.get(b)) and not password.rejected(a, password.get(a))
    assert asked == [False, True, True]


def test_a_password_that_another_host_accepts_is_not_forgotten() -> None:
    """Where accounts of one name have several passwords, each host keeps its own."""
    asked: list[str] = []

    def ask(question: sudo.Question) -> str:
        asked.append(question.host)
        return f"of {question.host}"

    password, (a, b) = sudo.Password(ask, sudo.TRIES), (sudo.Question("a", "me"), sudo.Question("b", "me"))
    of_a = password.get(a)
    password.accepted(of_a)
    assert password.rejected(b, password.get(b))
    assert (password.get(b).reveal(), password.get(a)) == (b"of b", of_a)
    assert asked == ["a", "b"]


def test_a_command_is_not_asked_again() -> None:
    """It would print the same, and lock the account."""
    password = sudo.Password(lambda question: "wrong")
    question = sudo.Question("a", "me")
    assert not password.rejected(question, password.get(question))
