"""Secrets are redacted in all that is shown, written or sent. Pure text work, in linear time.

`redact` is the entry: it takes JSON and encoded text apart, and applies the other modules to every text in it.
`known_secrets` finds the site's own secrets by value, `secret_forms` secrets of a known form (keys, tokens, URLs, options of
commands), `named_values` values behind a secret's name, `slurm_conf_secrets` those of slurm.conf's odd lines.
`secret_names` says which names are a secret's. `events` and `diff` are what callers show: a run's events, and the difference
between two states.
"""
