"""Benchmarks: measurements that take minutes to hours, and are no tests.

Each file is one command, `python -m benchmarks.NAME`, that prints one table and writes one JSON
file (`--output`). What a user of the package needs belongs in `cgan_tf`; a check that must hold
after every change belongs in `tests`. Shared helpers: `memory`, `own_step`, `service_load`,
`subprocesses` and `torch_step`.

`results/` holds the figures that are kept: one JSON file for each measurement, with its commit,
date, hardware, seed and command. `python -m benchmarks.results` writes docs/results.md from them.

The packages to compare with are the extra `benchmarks`: `pip install -e ".[benchmarks]"`.
"""
