# Bounds for what others than root say and run: a number may be a command, a program may never end, or say too much.

# numeral WORD: whether it is a number that sh can count with. In $(( )) some shells run the command in a word like
# a[$(COMMAND)], a 0 in front makes it octal, and one that is too long ends the script.
numeral() { case $1 in '' | *[!0123456789]* | 0?* | ????????????????*) return 1 ;; esac; }
# counted WORD: the number; 0 for what is none. For all that root counts with and has not counted itself.
counted() { if numeral "${1-}"; then echo "$1"; else echo 0; fi; }
# up: seconds since this machine started, for all that waits: nobody sets that clock, while the time of day may jump
up() { read -r up_ rest_ </proc/uptime && echo "${up_%%.*}"; }

# bounded COMMAND...: what it says is passed on until COMMAND itself ends, and no more than $most bytes of it. What COMMAND has
# left behind, in a session of its own, may hold its output open for as long as it likes: nobody waits for that. It ends with
# COMMAND's exit code; with 141 where there was more than that.
bounded() (
    if [ -c /dev/fd/2 ]; then
        relayed "$@"
    elif [ /dev/fd/1 -ef /dev/fd/2 ]; then
        relayed joined "$@"
    else
        relayed swapped relayed swapped "$@"
    fi
)
joined() { "$@" 2>&1; }
swapped() { "$@" 6>&1 1>&2 2>&6 6>&-; } # standard output and standard error, each in the other's place
# The last thing that the reader takes is this shell's. COMMAND could say it as well: then nothing behind it is read.
relayed() (
    ended="--ended-$$--"
    exec 5>&1
    code=$({
        {
            code=0
            ("$@") 5>&- 7>&- || code=$?
            trap '' PIPE
            echo "$code" >&7
            printf '\n%s\n' "$ended" 2>/dev/null # at the beginning of a line, whatever came before: that one's end goes again
        } | passed >&5 5>&-
    } 7>&1)
    case $code in *cut*) code=141 ;; esac
    exit "${code:-143}"
)
# A line without an end would fill the memory: it ends the reader. What was cut off is never taken for all: COMMAND need not have
# noticed, since the last of it fits into a pipe.
passed() (
    LC_ALL=C
    export LC_ALL
    ulimit -v 1000000 2>/dev/null
    { sed -n "/^$ended\$/q;p" 2>/dev/null || echo cut >&7; } | {
        head -c "${most:-16000000}"
        [ "$(head -c 1 | wc -c)" = 0 ] || echo cut >&7
    } | head -c -1
)
