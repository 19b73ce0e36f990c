"""cgan_tf.training.checkpoint: damaged, partly written and complete checkpoints."""

import numpy as np
import pytest
import tensorflow as tf
import tiny
from toy import BATCH, Toy
from toy_training import EVERY_STEP, STEPS, checkpoints, message, name, train

from cgan_tf.core.errors import UserError
from cgan_tf.training import checkpoint

# Damaged checkpoints.


def truncate(path):
    path.write_bytes(path.read_bytes()[:-50])


def empty(path):
    path.write_bytes(b"")


def flip_in_the_middle(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"NUMPY") + 130] ^= 0xFF  # an array's first byte
    path.write_bytes(content)


def garble(path):
    path.write_bytes(b"text" * 200)


def other_shape(path):
    with np.load(path) as arrays:
        values = {key: arrays[key] for key in arrays.files}
    values["weight/0000"] = values["weight/0000"][:2]
    np.savez(path, **values)


def other_parts(path):
    with np.load(path) as arrays:
        values = {key: arrays[key] for key in arrays.files if key != "seed_generator/0000"}
    np.savez(path, **values)


def no_facts(path):
    with np.load(path) as arrays:
        values = {key: arrays[key] for key in arrays.files}
    values["facts"] = np.frombuffer(b"{", np.uint8)
    np.savez(path, **values)


DAMAGES = [truncate, empty, flip_in_the_middle, garble, other_shape, other_parts, no_facts]


def stopped(stage):
    """Leaves the checkpoints of steps 19 and 20."""
    train(stage, steps=20, options=EVERY_STEP)
    assert checkpoints(stage) == [name(19), name(20)]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_reported_and_the_previous_one_used(stage, reference, damage):
    stopped(stage)
    damage(stage.checkpoints / name(20))
    damaged = (stage.checkpoints / name(20)).read_bytes()
    lines = []
    train(stage, lines=lines)
    assert lines[0].startswith(f"note: checkpoint {name(20)} is damaged (")
    assert lines[0].endswith("); using the previous one")
    assert lines[1] == "gan: resuming at 0.2 of 0.4 kimg"
    tiny.assert_equal_state(tiny.final_state(stage), reference[0])
    assert len(stage.read_stats()) == STEPS
    # Only the checkpoint that is older than the two newest was deleted.
    assert checkpoints(stage) == [name(19), f"{name(20)}.damaged", name(STEPS)]
    assert (stage.checkpoints / f"{name(20)}.damaged").read_bytes() == damaged


def test_all_checkpoints_are_damaged(stage):
    stopped(stage)
    for path in stage.checkpoints.iterdir():
        truncate(path)
    line = (
        f"{stage.checkpoints}: all checkpoints are damaged; --stage=gan --restart moves the stage "
        "aside and starts over"
    )
    for _ in range(2):  # the same command again does not start over silently
        before = stage.read_stats()
        with pytest.raises(UserError) as caught:
            train(stage)
        assert message(caught) == line
        assert checkpoints(stage) == [f"{name(19)}.damaged", f"{name(20)}.damaged"]
        assert stage.read_stats() == before


def test_a_flipped_bit_is_noticed_or_has_no_effect(tmp_path):
    parts = Toy().checkpoint_parts()
    rng = np.random.default_rng(0)
    parts["weight"][0].assign(rng.normal(size=3))
    path = checkpoint.save_checkpoint(tmp_path, parts, {"step": 1})
    reference = path.read_bytes()
    expected = [variable.numpy() for variable in checkpoint.named_variables(parts).values()]
    outcomes = set()
    for position in range(0, len(reference), 3):
        content = bytearray(reference)
        content[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        try:
            facts = checkpoint.restore_checkpoint(tmp_path, parts, say=lambda line: None)
        except UserError:
            outcomes.add("refused")
            (tmp_path / f"{path.name}.damaged").unlink()
            continue
        outcomes.add("no effect")
        assert facts == {"step": 1}
        for variable, value in zip(
            checkpoint.named_variables(parts).values(), expected, strict=True
        ):
            assert variable.numpy().tobytes() == value.tobytes()
    assert outcomes == {"refused", "no effect"}


def test_partly_written_checkpoints_are_deleted(stage, reference):
    stopped(stage)
    (stage.checkpoints / f".{name(21)}.tmp").write_bytes(b"half")
    train(stage)
    assert checkpoints(stage) == [name(20), name(STEPS)]
    tiny.assert_equal_state(tiny.final_state(stage), reference[0])


def test_a_checkpoint_contains_every_part(tmp_path):
    trainer = Toy()
    parts = trainer.checkpoint_parts()
    trainer.train_step(tf.ones((BATCH,)))
    kept = [variable.numpy() for variable in checkpoint.named_variables(parts).values()]
    assert checkpoint.save_checkpoint(tmp_path, parts, {"step": 7}) == tmp_path / name(7)
    trainer.train_step(tf.ones((BATCH,)))
    changed = [
        not np.array_equal(variable.numpy(), value)
        for variable, value in zip(checkpoint.named_variables(parts).values(), kept, strict=True)
    ]
    assert sum(changed) == 5  # the weight, Adam's two moments and its counter, the random state
    assert checkpoint.restore_checkpoint(tmp_path, parts) == {"step": 7}
    for variable, value in zip(checkpoint.named_variables(parts).values(), kept, strict=True):
        assert variable.numpy().tobytes() == value.tobytes()
    assert checkpoint.restore_checkpoint(tmp_path / "none", parts) == {}
