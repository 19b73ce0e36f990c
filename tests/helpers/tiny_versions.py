"""Versions of a model that multiplies, for tests of hot reload: version N returns N x."""

import shutil

import tensorflow as tf


class Times(tf.Module):
    """Returns `y`, its version times `x` `[N, 2]`."""

    def __init__(self, version):
        super().__init__()
        self.factor = tf.Variable(float(version))

    @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32, name="x")])
    def times(self, x):
        return {"y": self.factor * x}


def write(folder, version):
    """Writes a version to folder/version at once, as an atomic rename does."""
    module, building = Times(version), folder.parent / f"building{version}"
    tf.saved_model.save(module, str(building), signatures={"serving_default": module.times})
    folder.mkdir(exist_ok=True)
    building.rename(folder / str(version))


def damage(folder, version):
    """Cuts a version's variables in half."""
    (variables,) = (folder / str(version) / "variables").glob("*.data-*")
    content = variables.read_bytes()
    variables.write_bytes(content[: len(content) // 2])


def remove(folder, version):
    shutil.rmtree(folder / str(version))
