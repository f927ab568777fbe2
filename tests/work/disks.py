"""Disks that are full."""

import errno
import os
import resource
from contextlib import contextmanager


@contextmanager
def largest_file(size):
    """As on a full disk: what is written beyond `size` bytes of a file fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def full_disk(*_, **__):
    """What a system call does where nothing more fits."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
