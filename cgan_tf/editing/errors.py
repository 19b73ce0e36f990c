"""The error that the public Python interface raises."""

from cgan_tf.core.errors import UserError


class EditorError(UserError):
    """Wrong input to `load_editor` or to a method of `Editor`. The message is one line.

    Attributes:
        argument: the argument at fault: "model", "photo", "face", "strengths" or "target". The
            commands turn it into the name of their flag.
        value: the value at fault, or the part of it that is wrong; "" if there is none to show.
        reason: what is wrong, and the remedy.
    """

    def __init__(self, argument: str, reason: str, value: object = "") -> None:
        super().__init__(f"{value}: {reason}" if value else reason)
        self.argument = argument
        self.value = str(value)
        self.reason = reason
