"""What ssh's log says of a login that failed. What ssh really writes is tried in tests/sites/login_forms.py."""

from __future__ import annotations

import pytest

from dws_on_csm.transport import ssh_log

LOGIN = "debug1: Authentications that can continue: {}\r\n{}\r\nroot@host: Permission denied ({}).\r\n"


def log(words: str, methods: str = "publickey") -> bytes:
    return LOGIN.format(methods, words, methods).encode()


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("PKCS#11 login failed: PIN locked", "the PIN of the token is locked"),
        ("C_Login failed: 160", "the token did not accept the PIN"),
        ("need pin entry", "the token needs its PIN, and nobody has typed one"),
        ("debug1: provider /x.so returned no slots", "no token has a key; none is inserted, or it is empty"),
    ],
)
def test_other_versions_of_ssh_have_other_words(words: str, cause: str) -> None:
    """Each wording gives the same cause."""
    found = ssh_log.cause(log(words))
    assert found and found.text == cause


def test_the_provider_is_named_in_the_fix() -> None:
    """The fix can be pasted where ssh has named the provider."""
    named = "debug1: provider /usr/lib/opensc-pkcs11.so slot 0: label <x>\r\npin required"
    found = ssh_log.cause(log(named))
    assert found and "`ssh-add -s /usr/lib/opensc-pkcs11.so`" in found.fix
    found = ssh_log.cause(log("pin required"))
    assert found and "`ssh-add -s PROVIDER`" in found.fix


def test_a_ticket_is_not_all_that_is_missing_where_keys_are_accepted() -> None:
    """Most systems set GSSAPIAuthentication for all hosts: where a host takes keys, too, the message says both."""
    words = "debug1: Unspecified GSS failure.\nClock skew too great\n"
    found = ssh_log.cause(log(words, "gssapi-with-mic"))
    assert found and found.text == "the clocks of this machine and of the Kerberos realm differ"
    found = ssh_log.cause(log(words, "publickey,gssapi-with-mic"))
    assert found and found.text.startswith("the host accepted no key, and the clocks")


def test_what_fails_before_the_login_has_no_cause_of_these() -> None:
    """A token that lacks its PIN does not explain a connection that was refused."""
    assert ssh_log.cause(b"pin required\r\nssh: connect to host x port 22: Connection refused\r\n") is None
    assert ssh_log.cause(log("")) is None


OFFERED = "debug1: Offering public key: /root/.ssh/id_ed25519 ED25519 SHA256:x explicit\r\n"


def test_only_where_a_key_was_refused_is_sshd_s_log_recommended() -> None:
    """It cannot say more of a host that was offered no key, or that wanted something else after the key."""
    assert ssh_log.key_refused(LOGIN.format("publickey", "", "publickey").encode() + OFFERED.encode() + log(""))
    assert not ssh_log.key_refused(log(""))
    accepted = f"{OFFERED}debug1: Server accepts key: x\r\n"
    assert not ssh_log.key_refused(accepted.encode() + log(""))


@pytest.mark.parametrize(("user", "home"), [("root", "~root"), ("", "~"), ("EXAMPLE\\joe", "~")])
def test_the_files_that_sshd_looks_at_can_be_listed_as_they_stand(user: str, home: str) -> None:
    """A shell knows the home folder of a name that it takes as one."""
    assert f"`ls -ld {home} {home}/.ssh {home}/.ssh/authorized_keys`" in ssh_log.of_sshd(user, "nid000001")
