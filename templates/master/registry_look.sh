# Prints the line of registry.py's `check`. Goes after registry_seen.sh.
if [ -n "$registry_seen" ]; then printf '%s\n' "$registry_seen" | head -n 1; else ask_registry check; fi
