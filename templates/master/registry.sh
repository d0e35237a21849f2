# ask_registry WHAT ARGUMENT...: ask the site's registry (master/registry.py says what). Its credential goes from its Secret to the
# registry and to podman through pipes: no command line and no file has it.
# Set before: $registry_program, the text of registry.py; $registry, $registry_secret, $token_hosts.
ask_registry() { python3 -c "$registry_program" "$registry" "$registry_secret" "$token_hosts" "$@"; }
