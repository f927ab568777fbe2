"""The `edgewise` command: parse, call, print. Nothing here computes; `--help` needs no torch."""
