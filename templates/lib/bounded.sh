# Bounds for output and programs of other users: a "number" may be a command, a program may never end or print without end.

# is_number WORD: whether sh can calculate with it. In $(( )) some shells run the command in a word like a[$(COMMAND)], a leading 0
# makes it octal, and a number with too many digits ends the script.
is_number() { case $1 in '' | *[!0123456789]* | 0?* | ????????????????*) return 1 ;; esac; }
# number_or_zero WORD: print the number; 0 for any other word. For every number that comes from outside and root calculates with.
number_or_zero() { if is_number "${1-}"; then echo "$1"; else echo 0; fi; }
# uptime_seconds: seconds since this machine started, for deadlines: nobody can set that clock, while the time of day may jump
uptime_seconds() { read -r up_ rest_ </proc/uptime && echo "${up_%%.*}"; }

# run_bounded COMMAND...: pass on the lines that COMMAND prints until COMMAND itself ends, $most bytes at most; the last one ends in a
# newline, even if COMMAND's does not. It does not wait for processes that COMMAND left behind, which could hold its output open
# forever. Exit code: COMMAND's; 141 if there was more output.
run_bounded() {
    if [ -c /dev/fd/2 ]; then
        relay_output "$@"
    elif [ /dev/fd/1 -ef /dev/fd/2 ]; then
        relay_output merge_outputs "$@"
    else
        relay_output swap_outputs relay_output swap_outputs "$@"
    fi
}
merge_outputs() { "$@" 2>&1; }
swap_outputs() { "$@" 6>&1 1>&2 2>&6 6>&-; } # swap standard output and standard error
# The last line that the reader accepts is this shell's. If COMMAND prints the same line, nothing after it is read.
relay_output() (
    ended="--ended-$$--"
    exec 5>&1
    code=$({
        {
            code=0
            ("$@") 5>&- 7>&- || code=$?
            trap '' PIPE
            echo "$code" >&7
            printf '\n%s\n' "$ended" 2>/dev/null # on a line of its own
        } | limit_output >&5 5>&-
    } 7>&1)
    case $code in *cut*) code=141 ;; esac
    exit "${code:-143}"
)
# An endless line would fill the memory: a limit ends the reader. Cut output never passes as complete: COMMAND may not have noticed,
# because the rest fitted into the pipe.
limit_output() (
    LC_ALL=C
    export LC_ALL
    ulimit -v 1000000 2>/dev/null
    # prints one line later than it reads: the last one, before $ended, is empty where COMMAND's output ended in a newline
    { sed -n "/^$ended\$/{x;/./p;q;};x;1!p" 2>/dev/null || echo cut >&7; } | {
        head -c "${most:-16000000}"
        [ -z "$(od -An -tx1 -N1)" ] || echo cut >&7
    }
)
