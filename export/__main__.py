"""`python -m export` in a checkout is the same as `cgan export`."""

import sys

from cgan_tf.__main__ import main

if __name__ == "__main__":
    main(["export", *sys.argv[1:]])
