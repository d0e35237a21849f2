# Runs in mount and process namespaces of its own: nothing that a mutant does reaches this machine. `rm -rf "$folder"/*` without
# its folder finds a read-only file system, `kill` of the wrong process none of others.
# sandbox.sh ORIGINAL MUTATED COMMAND...: COMMAND sees MUTATED in ORIGINAL's place.
set -eu
mount --make-rprivate /
chmod 644 -- "$2"
cut -d' ' -f2 /proc/self/mounts | grep -Ev '^/(proc|dev|sys)(/|$)' | while read -r where; do
    mount -o remount,bind,ro "$where" 2>/dev/null || echo "$where stays writable" >&2
done
if (: >/dws-on-csm-mutant) 2>/dev/null; then
    rm -f /dws-on-csm-mutant
    echo "the file system could not be made read-only" >&2
    exit 1
fi
mount --bind "$2" "$1"
mount -o remount,bind,ro "$1"
for folder in /tmp /run /var/lib /dev/shm; do mount -t tmpfs tmpfs "$folder"; done
chmod 1777 /tmp /dev/shm
shift 2
export PYTHONDONTWRITEBYTECODE=1
exec "$@"
