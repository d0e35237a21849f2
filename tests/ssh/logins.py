"""Logins of real sites as data: login shells and what their start-up files do. And an sshd whose users have these shells."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.ssh import own_etc
from tests.ssh.server import Server

SHELLS = {
    "bash": ".bashrc",
    "zsh": ".zshenv",
    "tcsh": ".cshrc",
    "bsd-csh": ".cshrc",
    "fish": ".config/fish/config.fish",
    "ksh93": "",
    "mksh": "",
    "dash": "",
    "rbash": ".bashrc",
    "nologin": "",
    "false": "",
}
"""Login shell -> the start-up file that it reads for a command of ssh, "" for none."""


@dataclass(frozen=True)
class Login:
    """A login of a site.

    name    what the site has
    shell   the login shell
    file    the text of its start-up file
    cause   what the tool names as the cause, a regular expression; "": scripts run
    more    further files of the home
    taken   another process reads from stdin, too: the script may also arrive whole
    named   ssh runs some commands there, and naming the cause is all that the tool does
    """

    name: str
    shell: str
    file: str = ""
    cause: str = ""
    more: Mapping[str, str] = field(default_factory=dict)
    named: bool = False
    taken: bool = False


READS = "start-up file reads from stdin"
ENDS = "before it started a command"
STDOUT = "redirects stdout"

_FUNCTIONS = "\n".join(
    f"{name}() {{ echo not {name}; return 3; }}"
    for name in ("sh", "exec", "head", "timeout", "echo", "env", "printf", "cksum", "read", "eval", "shift", "sudo")
)
_EXPORTED = "\n".join(
    f"{name}() {{ builtin echo not {name}; return 3; }}; export -f {name}"
    for name in ("sh", "head", "timeout", "echo", "env", "printf", "cksum", "read", "cat", "command")
)
_ALIASES = "\n".join(
    f"alias {name}='echo not {name}'" for name in ("sh", "exec", "head", "timeout", "env", "cksum", "/bin/sh")
)
_CSH_ALIASES = "\n".join(
    f'alias {name} "echo not {name}"' for name in ("sh", "exec", "head", "timeout", "env", "cksum")
)
_CHANGES = "export PATH=/nowhere:. IFS=e CDPATH=/tmp ENV=/nowhere BASH_ENV=/nowhere; umask 777; cd /tmp; ulimit -n 64"

BASH = (
    Login("case 24: asks with a time limit", "bash", 'read -t 2 -p "Load the site\'s modules? " answer'),
    Login("case 25: starts zsh", "bash", "[ -x /usr/bin/zsh ] && exec zsh", ENDS),
    Login("reads a line", "bash", "read answer", READS),
    Login("asks a question", "bash", 'read -p "Load the modules [Y/n]? " answer; echo "you said $answer"', READS),
    Login("reads everything", "bash", "cat >/dev/null", READS),
    Login("reads twenty bytes", "bash", "head -c 20 >/dev/null", READS),
    Login("asks until it gets an answer, or the end", "bash", 'while [ "$a" != yes ]; do read a || break; done', READS),
    Login("reads in the background", "bash", "cat <&0 >/dev/null & sleep 0.1", "arrived incomplete", taken=True),
    Login("starts fish", "bash", "exec fish", ENDS),
    Login("starts a login bash", "bash", "exec bash -l", ENDS),
    Login("starts another command", "bash", "exec echo hello", ENDS + ".*hello"),
    Login("starts tmux", "bash", "exec tmux", ENDS),
    Login("exits well", "bash", "exit 0", ENDS),
    Login("exits badly", "bash", "echo no home >&2; exit 1", ENDS + ".*no home"),
    Login("ends itself", "bash", "kill -KILL $$", "by a signal " + ENDS),
    Login("prints much", "bash", "seq 200000; seq 200000 >&2"),
    Login("prints without a line end", "bash", "printf 'welcome '; printf 'beware ' >&2"),
    Login("prints control characters", "bash", "printf '\\033]0;title\\007\\r\\0\\377'"),
    Login("stops at errors", "bash", "set -e; export SHELLOPTS; true"),
    Login("stops at unset variables, and shows commands", "bash", "set -ux; export SHELLOPTS"),
    Login("reads no programs", "bash", "set -f; set -C; shopt -s failglob"),
    Login("has functions with the names of programs", "bash", _FUNCTIONS),
    Login("exports such functions", "bash", _EXPORTED),
    Login("has aliases with these names", "bash", f"shopt -s expand_aliases\n{_ALIASES}"),
    Login("changes PATH, IFS, umask, folder, limits", "bash", _CHANGES),
    Login("has no PATH and no HOME", "bash", "unset PATH HOME USER LOGNAME SHELL"),
    Login("is in a folder that is gone", "bash", "mkdir -p /tmp/gone.$$; cd /tmp/gone.$$; rmdir /tmp/gone.$$"),
    Login("says goodbye, and ends with a code of its own", "bash", "trap 'echo bye; exit 9' EXIT"),
    Login("ignores signals", "bash", "trap '' HUP INT TERM QUIT PIPE CHLD"),
    Login("traps errors and each command", "bash", "trap 'echo error' ERR; trap 'echo before' DEBUG"),
    Login("takes three seconds", "bash", "sleep 3"),
    Login("has stderr in a file", "bash", "exec 2>/dev/null"),
    Login("has stderr in stdout", "bash", "exec 2>&1", "redirects stderr"),
    Login("has stdout in a file", "bash", "exec >/dev/null", STDOUT),
    Login("has stdout in stderr", "bash", "exec >&2", STDOUT),
    Login("has stdin elsewhere", "bash", "exec </dev/null", "arrived incomplete.*stdin"),
    Login("sets a terminal", "bash", "stty erase ^H; tput init; mesg n; clear"),
    Login("loads a key", "bash", "ssh-add </dev/null"),
    Login("starts an agent", "bash", "eval $(ssh-agent) >/dev/null; trap 'kill $SSH_AGENT_PID' EXIT"),
    Login("has a coprocess and open files", "bash", "exec 3</dev/null 4>/dev/null 8>/dev/null 9</dev/null"),
    Login("returns early", "bash", "case $- in *i*) ;; *) return;; esac\nread x"),
    Login("has a syntax error", "bash", "if then ((("),
)
ZSH = (
    Login("reads a line", "zsh", "read answer", READS + ".*zshenv"),
    Login("reads everything", "zsh", "cat >/dev/null", READS),
    Login("asks with a time limit", "zsh", 'read -t 2 "?Load? "'),
    Login("starts bash", "zsh", "exec bash", ENDS),
    Login("exits", "zsh", "exit 1", ENDS),
    Login("prints", "zsh", "echo hello; print -n more; echo beware >&2"),
    Login("has aliases", "zsh", f"setopt aliases\n{_ALIASES}"),
    Login("has functions", "zsh", _FUNCTIONS),
    Login("reads in the background", "zsh", "cat >/dev/null &", "arrived incomplete", taken=True),
    Login("has global aliases", "zsh", "alias -g sh=no -- -c=no exec=no env=no"),
    Login("says goodbye", "zsh", "zshexit() { echo bye; }; TRAPEXIT() { echo bye; return 9; }"),
    Login("has other options", "zsh", "setopt sh_word_split no_rc_quotes extended_glob err_exit no_unset null_glob"),
    Login("stops at errors", "zsh", "set -eux"),
    Login("changes the folder and the like", "zsh", "cd /tmp; umask 777; export PATH=/nowhere IFS=e"),
)
CSH = tuple(
    Login(name, shell, file, cause)
    for shell in ("tcsh", "bsd-csh")
    for name, file, cause in (
        ("reads a line", "set answer = $<", READS + ".*cshrc"),
        ("reads everything", "cat >/dev/null", READS),
        ("starts bash", "exec bash", ENDS),
        ("exits", "exit 1", ""),
        ("prints", "echo hello; echo -n more", ""),
        ("has aliases", _CSH_ALIASES, ""),
        ("has no glob, and shows commands", "set noglob; set noclobber; set echo; set verbose", ""),
        ("changes the folder and the like", "cd /tmp; umask 777; setenv PATH /nowhere:/tmp; setenv http_proxy x", ""),
        ("has history", "set history = 100; set savehist; set histchars = '!^'", ""),
    )
)
FISH = (
    Login("reads a line", "fish", "read answer", READS + ".*config.fish"),
    Login("reads everything", "fish", "cat >/dev/null", READS),
    Login("starts bash", "fish", "exec bash", ENDS),
    Login("exits", "fish", "exit 1"),
    Login("reads in the background", "fish", "cat >/dev/null &", "arrived incomplete", taken=True),
    Login("prints", "fish", "echo hello; echo beware >&2"),
    Login("has functions and abbreviations", "fish", "function sh; echo no; end; alias env='echo no'; abbr -a sh no"),
    Login("says goodbye", "fish", "function bye --on-event fish_exit; echo bye; end"),
    Login("changes the folder and the like", "fish", "cd /tmp; umask 777; set -x PATH /nowhere; set -x http_proxy x"),
)
OTHERS = (
    *(Login("plain", shell) for shell in ("bash", "zsh", "tcsh", "bsd-csh", "fish", "ksh93", "mksh", "dash")),
    Login("nologin", "nologin", "", "not available.*nologin or false"),
    Login("false", "false", "", "exit code 1.*nologin or false"),
    Login("restricted", "rbash", "", "restricted", named=True),
    *(
        Login("sshd's own start-up file prints and reads", shell, more={".ssh/rc": "cat; echo hello; echo beware >&2"})
        for shell in ("bash", "ksh93", "tcsh")
    ),
)
LOGINS = (*BASH, *ZSH, *CSH, *FISH, *OTHERS)


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """An sshd with a user of each shell of SHELLS, named like it, whose home is `folder`/homes/SHELL: /mnt/SHELL there."""
    users = {}
    for number, shell in enumerate(SHELLS):
        (folder / "homes" / shell).mkdir(parents=True)
        path = shutil.which(shell, path="/usr/bin:/bin:/usr/sbin:/sbin")
        assert path, f"{shell} is missing: make tools"
        users[shell] = f"{64100 + number}:65534::/mnt/{shell}:{path}"
    with own_etc.serving(folder, own_etc.users(users, {}), "SetEnv DWS_TEST=1", mnt=folder / "homes") as server:
        yield server


def prepare(folder: Path, login: Login) -> None:
    """Makes the home of the login's user: the start-up file and the other files, and nothing else."""
    home = folder / "homes" / login.shell
    shutil.rmtree(home)
    home.mkdir()
    files = {**login.more, **({SHELLS[login.shell]: login.file} if login.file else {})}
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(f"{text}\n")
    uid = 64100 + list(SHELLS).index(login.shell)
    for path in (home, *home.rglob("*")):
        shutil.chown(path, uid, 65534)
