"""Disks that are full, and folders that nobody may write."""

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


@contextmanager
def as_no_superuser():
    """A superuser may write everywhere; anyone else is left as they are."""
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        yield
    finally:
        os.seteuid(user)
