# slurm.conf as Slurm's own parser reads it, for scripts that have to know something of it before anybody can tell them.
# slurmconf.py says the grammar, and reads the same. Set before: $folder (of slurm.conf).

# conf_said KEY: what KEY is set to in slurm.conf or in what it includes, in Slurm's order: the last counts; without quotes.
# Nothing where it isn't set. conf_said alone: slurm.conf and all that it includes, a path a line, each once.
# An Include stands at the very beginning of a line; a relative one lies beside slurm.conf, whichever file includes it.
# Whoever writes slurm.conf says what it includes: a device, or a file without end, costs no more than this.
conf_said() (
    ulimit -v 1000000 2>/dev/null
    exec timeout --foreground -k 1 20 awk -v folder="$folder" -v key="${1-}" '
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
    # by cat, and of files alone: a fifo never ends, and many an awk ends where it is given a folder; \047 is a quote
    function reading(file) {
        gsub(/\047/, "\047\\\047\047", file)
        return "[ -f \047" file "\047 ] && exec cat -- \047" file "\047 2>/dev/null"
    }
    function follow(file, trail,  line, text, part, held, open, from) {
        if (++files > 1000) return
        from = reading(file)
        if (!(file in known)) { known[file] = 1; if (key == "") print file }
        text = ""
        open = 0
        while ((from | getline line) > 0) {
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
        close(from)
    }
    function one(text, file, trail,  name, rest, small) {
        small = tolower(text)
        if (match(small, /^include[ \t\r\f\v]+[^ \t\r\f\v]/)) {
            name = substr(text, RLENGTH)
            sub(/[ \t\r\f\v].*$/, "", name)
            gsub(/%c/, cluster, name)
            if (name !~ /^\//) name = folder "/" name
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
        if (key != "" && name == tolower(key)) { said = rest; is = 1 }
    }
    BEGIN {
        follow(folder "/slurm.conf", "\n" folder "/slurm.conf\n")
        if (is) print said
    }' </dev/null
)
conf_files() { conf_said; }

# SlurmUser: root unless slurm.conf says otherwise. A number is a user, too.
slurm_user() {
    user_=
    if [ -e "$folder/slurm.conf" ]; then user_=$(conf_said SlurmUser); fi
    user_=${user_%%(*}
    case $user_ in '' | *[!0-9]*) ;; *) user_=$(id -un -- "$user_" 2>/dev/null || echo "$user_") ;; esac
    echo "${user_:-root}"
}
