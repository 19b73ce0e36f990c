"""The verbs of the command `cgan`, one module each, and what only they need.

Here belong flags, messages and output files. The work itself does not: training (`stages`), editing
(`editing`) and export (`export`).
"""
