# Which slurm.conf slurmctld reads: of -f, of SLURM_CONF, else the one that it was built with. Goes after slurmctld.sh. Set before:
# $folder, $unit.

# named_conf WHOSE: from lines on standard input, the slurm.conf that they name, and how: "PATH (-f in WHOSE)"; nothing if they name
# none. Lines: "argv WORD" of a process, "environ NAME=VALUE"; of a unit "exec COMMAND", "unit WORDS", "file LINE", as systemd has them;
# of several values of a variable the last counts.
named_conf() {
    awk -v whose="$1" '
    # what systemd makes of a text: words at blanks, with quotes and backslashes taken off; the number of words. With `whole` the
    # text is one word.
    function split_up(s, out, whole,  i, n, c, q, t, has, count) {
        n = length(s)
        count = 0
        q = t = has = ""
        for (i = 1; i <= n; i++) {
            c = substr(s, i, 1)
            if (c == "\\" && q != "\047") { t = t substr(s, ++i, 1); has = 1 }
            else if (q != "") { if (c == q) q = ""; else t = t c }
            else if (c == "$" && substr(s, i + 1, 1) == "\047") continue
            else if (c == "\"" || c == "\047") { q = c; has = 1 }
            else if (c ~ /[ \t]/ && !whole) { if (has) out[++count] = t; t = has = "" }
            else { t = t c; has = 1 }
        }
        if (has) out[++count] = t
        return count
    }
    function assign(s,  at) { if (at = index(s, "=")) value[substr(s, 1, at - 1)] = substr(s, at + 1) }
    function argument(word) { arguments[++count] = word }
    { kind = $1; rest = substr($0, length($1) + 2) }
    kind == "argv" { argument(rest) }
    kind == "environ" { assign(rest) }
    kind == "unit" { n = split_up(rest, words); for (i = 1; i <= n; i++) assign(words[i]) }
    kind == "file" {
        if (rest ~ /\\$/) { joined = joined substr(rest, 1, length(rest) - 1); next }
        rest = joined rest
        joined = ""
        sub(/^[ \t]+/, "", rest)
        sub(/[ \t\r]+$/, "", rest)
        if (rest !~ /^[#;]/ && (at = index(rest, "="))) {
            name = substr(rest, 1, at - 1)
            sub(/[ \t]+$/, "", name)
            rest = substr(rest, at + 1)
            sub(/^[ \t]+/, "", rest)
            value[name] = split_up(rest, words, 1) ? words[1] : ""
        }
    }
    kind == "exec" { command = rest }
    END {
        n = split_up(command, outer)
        for (i = 1; i <= n; i++) {
            word = outer[i]
            if (word ~ /^[$][A-Za-z_][A-Za-z0-9_]*$/) {
                m = split_up(value[substr(word, 2)], words)
                for (j = 1; j <= m; j++) argument(words[j])
                continue
            }
            for (round = 0; round < 50 && match(word, /[$][{][A-Za-z_][A-Za-z0-9_]*[}]/); round++) # a value can name itself
                word = substr(word, 1, RSTART - 1) value[substr(word, RSTART + 2, RLENGTH - 3)] substr(word, RSTART + RLENGTH)
            argument(word)
        }
        # as getopt: one letter after another, the last -f counts
        for (i = 2; i <= count && arguments[i] != "--"; i++) {
            if (arguments[i] !~ /^-[^-]/) continue
            for (j = 2; j <= length(arguments[i]); j++) {
                letter = substr(arguments[i], j, 1)
                if (letter !~ /[fLn]/) continue
                has = substr(arguments[i], j + 1)
                if (has == "") has = arguments[++i]
                if (letter == "f") path = has
                break
            }
        }
        if (path != "") print path " (-f in " whose ")"
        else if (value["SLURM_CONF"] != "") print value["SLURM_CONF"] " (SLURM_CONF in " whose ")"
    }'
}
# process_conf PID: what the process was started with
process_conf() {
    {
        read_proc "$1" cmdline | tr '\n\0' ' \n' | sed 's/^/argv /'
        read_proc "$1" environ | tr '\n\0' ' \n' | sed 's/^/environ /'
    } | named_conf "the running process"
}
# unit_conf: what slurmctld would be started with next time
unit_conf() {
    {
        systemctl show-environment | sed 's/^/unit /'
        has=$(systemctl show -p Environment -p EnvironmentFiles -p ExecStart "$unit")
        printf '%s\n' "$has" | sed -n 's/^Environment=/unit /p'
        printf '%s\n' "$has" | sed -n 's/^EnvironmentFiles=\(.*\) (ignore_errors=[a-z]*)$/\1/p' |
            while IFS= read -r pattern; do
                for file in $pattern; do timeout -k 1 5 sh -c "$regular$reads" sh "$file" 0 2>/dev/null | sed 's/^/file /'; done
            done
        printf '%s\n' "$has" | sed -n 's/^ExecStart={.*; argv\[\]=\(.*\) ; ignore_errors=.*/exec \1/p' | tail -n 1
    } </dev/null | named_conf "the unit $unit"
}
# other_confs: a line for each slurm.conf that slurmctld reads, or will read, and that is not the one in $folder
other_confs() {
    started_with=
    if [ -n "$main" ]; then started_with=$(process_conf "$main"); fi
    {
        if [ -n "$started_with" ]; then
            printf '%s\n' "$started_with"
        elif [ -n "$main" ]; then
            # the one that is in charge answers: this one, if it is the first that responds
            patience=10
            case $(pings | grep ' UP$' | head -n 1) in here*) running_setting 10 SLURM_CONF | sed 's/$/ (as slurmctld reports)/' ;; esac
            patience=30
        fi
        if systemd; then unit_conf; fi
    } | while IFS= read -r named; do
        path=${named% (*}
        [ "$path" = "$folder/slurm.conf" ] || same_conf "$path" || printf '%s\n' "$named"
    done | awk '{ path = $0; sub(/ [(][^(]*$/, "", path) } !seen[path]++'
}
# same_conf PATH: whether it is the slurm.conf in $folder, in the same folder, where slurmctld looks for burst_buffer.lua too
same_conf() {
    case $1 in /*) [ "$1" -ef "$folder/slurm.conf" ] && [ "${1%/*}/." -ef "$folder/." ] ;; *) return 1 ;; esac
}
