# own_state FOLDER: print the folder for this tool's records: FOLDER, which is root's; for the user of a container who is not root, and
# cannot write there, a folder in memory. Its name can be known before, and another user there may have made it, to say what this tool
# remembers: it counts only if it is this user's own. It is made where it is missing: /dev/shm is sticky, so nobody else can replace it then.
own_state() {
    case $(id -u) in 0 | '') printf '%s\n' "$1"; return ;; esac
    own_=/dev/shm/dws-on-csm-$(id -u)
    mkdir -m 700 "$own_" 2>/dev/null || :
    case $(stat -c '%F %u %a' -- "$own_") in
    "directory $(id -u) 7"[0145][0145]) printf '%s\n' "$own_" ;;
    *)
        echo "$own_ is not this user's own folder: another user of this container has made it. Delete the pod: its successor has none" >&2
        return 1
        ;;
    esac
}
