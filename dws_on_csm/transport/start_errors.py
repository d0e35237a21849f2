"""Why a script did not begin on a host: the error, with the cause and what to do."""

from __future__ import annotations

import re

from dws_on_csm.model.errors import SudoRefused, Unreachable
from dws_on_csm.transport import sudo
from dws_on_csm.transport.channel import Exchange

_GUARDS = {
    "bash": ("~/.bashrc, or /etc/bash.bashrc", "case $- in *i*) ;; *) return;; esac"),
    "zsh": ("~/.zshenv, or /etc/zshenv", "[[ -o interactive ]] || return"),
    "csh": ("~/.cshrc, or /etc/csh.cshrc", "if (! $?prompt) exit"),
    "tcsh": ("~/.tcshrc, ~/.cshrc, or /etc/csh.cshrc", "if (! $?prompt) exit"),
    "fish": ("~/.config/fish/config.fish, or /etc/fish/config.fish", "status is-interactive; or return"),
}
"""Login shell -> the start-up files that it reads for a command of ssh, and a line that ends them where nobody types."""


def _guard(shell: str) -> str:
    """The fix for a start-up file. Where the login shell is unknown, bash's stands for all."""
    file, line = _GUARDS.get(shell.rpartition("/")[2], ("", ""))
    if file:
        return f"put `{line}` at the top of its start-up file: {file}"
    return (
        "put `case $- in *i*) ;; *) return;; esac` at the top of the start-up file of its shell: ~/.bashrc for bash "
        "(~/.zshenv for zsh, ~/.cshrc for csh and ~/.config/fish/config.fish for fish have lines of their own for this)"
    )


def reads_input(host: str, shell: str) -> Unreachable:
    """The error where a start-up file waits for input."""
    text = "the login's start-up file reads from stdin, which is for scripts: nothing was sent"
    return Unreachable(host, text, _guard(shell))


def incomplete(host: str, shell: str) -> Unreachable:
    """The error where a script did not arrive as it was sent."""
    text = "a script arrived incomplete, and none of it was run: the login's start-up file read from stdin, or redirects it"
    return Unreachable(host, text, _guard(shell))


def redirects(host: str, exchange: Exchange) -> Unreachable:
    """The error where nothing comes on stdout, or what should come on stderr."""
    effect = "what commands print does not arrive" if exchange.overdue == "stdout" else "it comes with stdout"
    text = f"the login's start-up file redirects {exchange.overdue}: {effect}"
    return Unreachable(host, text, _guard(exchange.shell))


def not_started(host: str, exchange: Exchange) -> Unreachable:
    """The error where the login shell did not start the command: it hangs, or it ended before."""
    words = exchange.login_text()
    wrote = f"; it wrote: {words}" if words else ""
    if not exchange.whole:
        text = f"the login shell has started no command after {exchange.seconds:.0f} s{wrote}"
        return Unreachable(host, text, f"find out what its start-up file waits for: `ssh {host} true`; {_guard('')}")
    how = "by a signal" if exchange.code is None else f"with exit code {exchange.code}"
    if "restricted" in words:
        fix = (
            f"give the user a login shell without restrictions, or log in as another user (ssh.user): `ssh {host} true`"
        )
        return Unreachable(host, f"the login shell is restricted, and cannot start /bin/sh: {words}", fix)
    fix = f"run `ssh {host} true; echo $?`, and `getent passwd` on the host for the user's shell; {_guard('')}"
    text = (
        f"the login ended {how} before it started a command{wrote}; its shell is nologin or false, or a "
        "start-up file exits, or starts another shell (exec)"
    )
    return Unreachable(host, text, fix)


_FIXES = (
    (r"must have a tty", "put `Defaults:USER !requiretty` in sudoers, or install `script` (util-linux) there"),
    (
        r"not in the sudoers|not allowed to|may not run",
        "run `visudo` there as root, and add the line `USER ALL=(ALL) ALL`",
    ),
    (r"incorrect password|no password was provided", "run the same command again, with the right password"),
    (r"expired|change your password", "log in there, and change the password of the account"),
    (r"setuid|no new privileges", "log in as root (ssh.user): sudo cannot work there"),
    (r"sudo: .*not found", "install sudo there, or log in as root (ssh.user)"),
    (r"sudoers.*(error|owned|mode|writable)", "correct what it says of sudoers: `visudo -c` as root"),
)
"""What sudo writes (LC_ALL is C) -> what to do. This decides nothing but the advice."""
_USER = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.@-]*\$?) (?:is not in the sudoers|is not allowed to|may not run)")
"""The account of which sudo writes that it lacks the right."""


_WRONG = re.compile(r"incorrect (password|authentication) attempt")
"""How sudo ends where it asks no second time (passwd_tries=1)."""


def is_wrong_password(exchange: Exchange) -> bool:
    """Whether sudo did not accept the answer: it asked again, or ended and said so."""
    return exchange.refused or _ended_with(_WRONG, exchange)


_LATE = re.compile(r"timed out reading password")
"""How sudo ends where nobody answers within its passwd_timeout, five minutes where sudoers does not say otherwise."""


def is_late_answer(exchange: Exchange) -> bool:
    """Whether sudo had ended before it got the answer: a person thought about it, or another host tried it first."""
    return _ended_with(_LATE, exchange)


def _ended_with(words: re.Pattern[str], exchange: Exchange) -> bool:
    """Whether sudo has asked for a password, and ended with these words without starting the script."""
    ended = exchange.code == sudo.REFUSED and exchange.reached == "login"
    return ended and bool(exchange.asked) and bool(words.search(exchange.login_text()))


def sudo_refused(host: str, exchange: Exchange) -> SudoRefused:
    """The error where the login worked, and sudo did not start the script."""
    words = exchange.login_text()
    whose = f" of {exchange.asked}" if exchange.asked else ""
    other = "give the user NOPASSWD in sudoers, or log in as root (ssh.user)"
    if is_wrong_password(exchange):
        # not "password of ACCOUNT: WORDS": what follows such a colon is redacted
        text = f"sudo did not accept the password{whose}; it wrote: {words}"
        return SudoRefused(host, text, sudo.FIX_OF_REFUSAL)
    if exchange.question:
        before = f"after the password{whose}" if exchange.asked else "in place of a password"
        text = f"sudo asks for something that this tool can't answer, {before}: {words or exchange.question}"
        return SudoRefused(host, text, f"{other}; or exempt the user from this question in PAM")
    if exchange.overdue:
        fix = f"{sudo.what_sudo_waits_for(host)}, or what redirects stderr"
        return SudoRefused(
            host, f"sudo did not start the script within {exchange.seconds:.0f} s: {words or 'it wrote nothing'}", fix
        )
    fixes = [fix for pattern, fix in _FIXES if re.search(pattern, words)]
    fix = fixes[0] if fixes else f"make `sudo sh` work for this user on {host}, or log in as root (ssh.user)"
    if who := _USER.search(words):
        fix = fix.replace("USER", who[1])
    return SudoRefused(host, f"sudo refused (exit code {exchange.code}): {words or 'it wrote nothing'}", fix)
