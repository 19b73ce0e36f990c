"""The stages of a run: each trains or measures one thing and writes one sub-folder of the run.

Belongs here: what a stage does from its options and the folders of earlier stages to its own
folder, with the trainers and the algorithms that only one stage uses. Architectures (`networks`),
the training loop (`training`), measurements (`evaluation`) and the command line (`commands`) do
not.
"""
