#!/usr/bin/env python3
"""deny_uring.py PROGRAM ARGUMENTS...: runs a program that may not make an io_uring.

A seccomp filter refuses the system call with EPERM, as container runtimes do; the host's own
switch, kernel.io_uring_disabled, would hit everybody on it.
"""

import ctypes
import os
import struct
import sys

_IO_URING_SETUP = 425
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2
_EPERM_RESULT, _ALLOW = 0x00050001, 0x7fff0000


def main():
    # Load the call's number; io_uring_setup gets EPERM, everything else goes on.
    program = [(0x20, 0, 0, 0), (0x15, 0, 1, _IO_URING_SETUP), (0x06, 0, 0, _EPERM_RESULT),
               (0x06, 0, 0, _ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    header = ctypes.create_string_buffer(
        struct.pack("HL", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if (libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 or
            libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, header) != 0):
        sys.exit(f"deny_uring.py: prctl: {os.strerror(ctypes.get_errno())}")
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
