"""Memory of the current process."""

import resource
import sys


def peak_mib() -> float:
    """The peak resident memory of this process, MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
