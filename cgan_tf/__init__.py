"""cgan_tf: from a folder of labelled photos to an attribute editor that runs on a phone.

The chain: gan -> regressor -> inversion -> directions -> evaluate -> export -> translate.
"""

import os

__version__ = "0.1.0"

# TensorFlow reads these when it is first imported: its start-up chatter is no message to a user.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
