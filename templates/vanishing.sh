# vanishing FOLDER: it goes with this shell, however that is ended. Of a signal alone dash would leave it; and `timeout` sends
# its signal twice, of which the second must not stop what the first has begun.
vanishing() {
    vanishing=$1
    trap 'rm -rf -- "$vanishing"' EXIT
    trap 'trap "" HUP TERM PIPE; exit 143' HUP TERM PIPE
}
