# Reads slurm.conf as Slurm's own parser does, for scripts on hosts, where Python may be missing; and finds SlurmUser by it.
# dws_on_csm/domain/slurm_conf.py reads the same in Python, and documents the grammar. Goes after as.sh. Set before: $folder (of
# slurm.conf). The file is read once, here: all that a script does goes by this reading, even if the file changes meanwhile.
LC_ALL=C
export LC_ALL

# read_conf: sets $conf_found: "file PATH" for slurm.conf and all its includes, each once, then "said KEY VALUE" for some keys (as
# Slurm's documents spell them; VALUE without quotes; the last setting in Slurm's order counts). Sets $conf_code:
#   0 read, 3 too many files, 4 one of them can't be read, 5 too large altogether; any other: cut off at a limit
# An Include is at the very beginning of a line; a relative path is relative to slurm.conf's folder, in every file.
# The writer of slurm.conf decides what it includes, also a device or an endless file: each read has a limit, ends with all that it
# started, and holds no lock of this script's.
read_conf() {
    conf_code=0
    conf_found=$(parse_conf 8>&- 9>&-) || conf_code=$?
}
parse_conf() (
    ulimit -v 1000000 2>/dev/null
    export regular reads
    exec timeout --foreground -k 1 30 awk -v folder="$folder" '
    # a line of the file without its comment
    function bare(s,  i, n, c) {
        if (!index(s, "\\")) { i = index(s, "#"); return i ? substr(s, 1, i - 1) : s }
        n = length(s)
        for (i = 1; i <= n; i++) {
            c = substr(s, i, 1)
            if (c == "\\") i++
            else if (c == "#") return substr(s, 1, i - 1)
        }
        return s
    }
    # a backslash stands for the character behind it
    function plain(s,  i, n, c, o) {
        if (!index(s, "\\")) return s
        n = length(s)
        o = ""
        for (i = 1; i <= n; i++) {
            c = substr(s, i, 1)
            if (c == "\\") c = substr(s, ++i, 1)
            o = o c
        }
        return o
    }
    # of files alone, for a fifo never ends, and many an awk ends where it is given a folder; \047 is a quote
    function reading(file) {
        gsub(/\047/, "\047\\\047\047", file)
        return "exec timeout -k 1 5 sh -c \"$regular exec $reads\" sh \047" file "\047 0 2>/dev/null"
    }
    function follow(file, trail,  line, text, part, held, open, from) {
        if (++files > 300) exit 3
        from = reading(file)
        if (!(file in known)) { known[file] = 1; print "file " file }
        text = ""
        open = 0
        while ((from | getline line) > 0) {
            if ((size += length(line) + 1) > 5000000) exit 5
            part = bare(line)
            held = part
            sub(/[ \t\r\f\v]+$/, "", held)
            open = 0
            while (open < length(held) && substr(held, length(held) - open, 1) == "\\") open++
            if (open % 2) { text = text plain(substr(held, 1, length(held) - 1)); continue }
            one(text plain(part), file, trail)
            text = ""
            open = 0
        }
        if (open % 2) one(text, file, trail)
        if (close(from)) exit 4
    }
    function one(text, file, trail,  name, rest, small) {
        small = tolower(text)
        if (match(small, /^include[ \t\r\f\v]+[^ \t\r\f\v]/)) {
            name = substr(text, RLENGTH)
            sub(/[ \t\r\f\v].*$/, "", name)
            gsub(/%c/, cluster, name)
            if (name !~ /^\//) name = folder "/" name
            if (length(name) > 4095) { print "file " substr(name, 1, 100) "..."; exit 4 }
            if (!index(trail, "\n" name "\n")) follow(name, trail name "\n")
            return
        }
        if (!match(small, /^[ \t\r\f\v]*[a-z0-9_.]+[ \t\r\f\v]*[-*+\/]?=[ \t\r\f\v]*[^ \t\r\f\v]/)) return
        rest = substr(text, RLENGTH)
        name = substr(small, 1, RLENGTH - 1)
        gsub(/[ \t\r\f\v]/, "", name)
        sub(/[-*+\/]?=.*$/, "", name)
        if (rest ~ /^"[^"]*"([ \t\r\f\v]|$)/) { sub(/^"/, "", rest); sub(/".*$/, "", rest) }
        else {
            sub(/[ \t\r\f\v].*$/, "", rest)
            if (rest ~ /^"[^"]*"$/) rest = substr(rest, 2, length(rest) - 2)
        }
        if (name == "clustername") cluster = tolower(rest)
        if (name in keys) said[name] = rest
    }
    BEGIN {
        split("SlurmUser PluginDir SlurmctldLogFile BurstBufferType AuthType AuthInfo StateSaveLocation SlurmctldPort ClusterName", names, " ")
        for (i in names) keys[tolower(names[i])] = names[i]
        follow(folder "/slurm.conf", "\n" folder "/slurm.conf\n")
        for (name in said) print "said " keys[name] " " said[name]
    }' </dev/null
)
# conf_value KEY: what KEY, spelled as in read_conf's list, is set to; nothing where it isn't set. It starts no program.
conf_value() {
    value_=$newline$conf_found$newline
    case $value_ in *"${newline}said $1 "*) ;; *) return 0 ;; esac
    value_=${value_#*"${newline}said $1 "}
    printf '%s\n' "${value_%%"$newline"*}"
}
# conf_files: slurm.conf and all that it includes, a path a line.
conf_files() { printf '%s\n' "$conf_found" | sed -n 's/^file //p'; }
# log_file: where slurmctld writes its log, a path; nothing where slurm.conf names none.
log_file() { conf_value SlurmctldLogFile | grep '^/' || :; }

# find_slurm_user: sets
#   $slurm_uid   SlurmUser's number; "" where it is unknown: then nothing is run as SlurmUser, and nothing of SlurmUser's as root
#   $slurm_name  its name on this host; slurm.conf's word where it is unknown
#   $slurm_lacks why it is unknown, in a word: unreadable, unknown, open; $slurm_why the same as a sentence
# The writer of slurm.conf could name any account as SlurmUser, to run programs with that account's rights: a slurm.conf that
# others than root can write is trusted only where that gains them nothing (`is_trusted`).
find_slurm_user() {
    slurm_uid='' slurm_lacks='' slurm_why=''
    slurm_name=$(conf_value SlurmUser)
    slurm_name=${slurm_name%%(*}
    if [ "$conf_code" != 0 ]; then
        slurm_lacks=unreadable
        slurm_why="SlurmUser is unknown: $folder/slurm.conf and its includes can't be read completely"
        case $conf_code in
        3) slurm_why="$slurm_why (more than 300 files)" ;;
        5) slurm_why="$slurm_why (more than 5 MB)" ;;
        4) slurm_why="$slurm_why ($(conf_files | tail -n 1) can't be read)" ;;
        124 | 137) slurm_why="$slurm_why (timed out)" ;;
        esac
    elif ! find_account "${slurm_name:-root}"; then
        slurm_lacks=unknown
        slurm_why="SlurmUser=$slurm_name $as_lacks"
    elif as_root && ! is_trusted "$as_number"; then
        slurm_lacks=open
        open=$(is_closed "$as_number") || slurm_why="$folder/slurm.conf says SlurmUser=${slurm_name:-root}"
        slurm_why="$slurm_why, which is not trusted: others than root and that user can write $open"
    else
        slurm_uid=$as_number slurm_name=$as_name
        know_account "$slurm_uid"
    fi
}

# is_trusted NUMBER: whether nobody could have named that account as SlurmUser to gain its rights. This holds where only root and that
# account can write what was read, where slurm.conf or its folder belongs to that account in a folder that nobody else can write, or
# where the host's slurmctld runs as that account. For root only the first holds.
is_trusted() {
    if is_closed "$1" >/dev/null; then return 0; fi
    [ "$1" != 0 ] || return 1
    is_owned_by "$1" "$folder/slurm.conf" || is_owned_by "$1" "$folder" || slurmctld_runs_as "$1"
}

# is_closed NUMBER: whether only root and that account can write slurm.conf and all its includes; if not, prints the first path that
# somebody else can write, and its owner. For a missing file the folder counts in which it could be created.
is_closed() (
    conf_files | while IFS= read -r file; do
        at=$file
        while [ ! -e "$at" ] && [ ! -L "$at" ]; do at=${at%/*} at=${at:-/}; done
        open=$(only_account_writes "$1" "$at") && { [ "$at" = "$file" ] || [ ! -k "$at" ]; } && continue
        at=${open:-$at}
        printf '%s (%s)\n' "$at" "$(stat -c 'owner %U, group %G, %A' -- "$at" 2>/dev/null)"
        exit 1
    done
)

# is_owned_by NUMBER PATH: whether PATH belongs to that account, and only it and root can write the folders above, so that nobody else put
# it there. A file with a second hard link does not count: another account may have made the link.
is_owned_by() (
    path=$2 hops=0
    while :; do
        above=${path%/*}
        only_account_writes "$1" "${above:-/}" >/dev/null || exit 1
        [ -L "$path" ] || break
        hops=$((hops + 1))
        [ "$hops" -lt 20 ] || exit 1
        target=$(readlink -- "$path")
        case $target in /*) path=$target ;; *) path=$above/$target ;; esac
    done
    case $(stat -c '%u %h %F' -- "$path" 2>/dev/null) in "$1 1 regular"* | "$1 "*" directory") exit 0 ;; *) exit 1 ;; esac
)

# slurmctld_runs_as NUMBER: whether the slurmctld that root started runs with that account's rights alone. Anybody can start one, so the
# unit's main process counts, and in a container the first process.
slurmctld_runs_as() (
    main=1
    [ ! -d /run/systemd/system ] || main=$(systemctl show -p MainPID "${unit:-slurmctld}" 2>/dev/null | sed -n 's/^MainPID=0*\([1-9][0-9]*\)$/\1/p')
    [ -n "$main" ] && [ "$(single_id Uid "$main")" = "$1" ] && is_slurmctld "$main"
)
# is_slurmctld PROCESS: whether its program has that name, and only root can change it. Owners in /proc prove nothing: a process can
# make them root's.
is_slurmctld() {
    lies=$(program_file "$1")
    case ${lies##*/} in slurmctld | slurmctld-*) only_root_writes "$lies" ;; *) return 1 ;; esac # Debian's is slurmctld-wlm
}

# choose_runner FILE: sets $runner to the account for a program that FILE is, or that FILE may name programs to (a kubeconfig): SlurmUser.
# Returns 77 with a message where SlurmUser is unknown, or is root and others than root can write FILE: then nothing may be run.
choose_runner() {
    runner=$slurm_uid
    case $slurm_uid in
    '') printf '%s\n' "$slurm_why" >&2 ;;
    0)
        runner=root
        if only_root_writes "$1"; then return 0; fi
        printf 'SlurmUser is root, but others than root can write %s: it is not used\n' "$1" >&2
        ;;
    *) return 0 ;;
    esac
    return 77
}

read_conf
find_slurm_user
