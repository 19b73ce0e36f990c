"""The foundation that every other package may use: it imports none of them.

Here: options and their rules (config, presets, rules, options), the command line (cli, quiet,
errors), files and folders (files, run_folder, saved_models), a model's artifact (artifact), and the
replicas of data parallelism (replicas). Not here: networks, data, losses, or anything that only
one stage needs. All but artifact and replicas import without TensorFlow, so that `--help` and a
mistyped flag answer at once.
"""
