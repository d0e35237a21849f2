# interpreters WHO: every Lua of this host, by one of its names, with its version, "5.4 /usr/bin/lua5.4" a line. The account WHO (a
# number) runs them; where WHO is root or nobody, only those that only root can write. Goes after as.sh.
interpreters() {
    lua_=
    for name in lua5.4 lua5.3 lua5.2 lua5.1 lua-5.4 lua-5.3 lua-5.2 lua54 lua53 lua52 lua; do
        path=$(PATH=${as_path:-$PATH}; command -v "$name") || continue
        [ -z "$lua_" ] || [ ! "$path" -ef "$lua_" ] || continue # another name of the one before
        case $1 in root | nobody) only_root_writes "$path" || continue ;; esac
        # the path may be what another user called a folder: it is in no program
        version=$(as "$1" timeout 10 "$path" -v 2>&1 </dev/null | sed -n '1s/^Lua \(5\.[0-9]\).*/\1/p')
        [ -n "$version" ] || continue
        lua_=$path
        printf '%s %s\n' "$version" "$(printf %s "$path" | tr '\n' ' ')"
    done
}
