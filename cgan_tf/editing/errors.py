"""The error that the public Python interface raises."""

from cgan_tf.core.errors import UserError


class EditorError(UserError):
    """Wrong input to `load_editor` or to a method of `Editor`; the message is one line.

    Attributes:
        argument: the argument at fault: "model", "photo", "face", "strengths" or "target".
    """

    def __init__(self, argument: str, message: str) -> None:
        super().__init__(message)
        self.argument = argument
