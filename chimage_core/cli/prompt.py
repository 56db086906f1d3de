"""Questions to who sits at the terminal. The core never asks: it is handed a function that does."""

import sys

from chimage_core.cancel import CancelToken
from chimage_core.registry.credentials import Credentials
from chimage_core.text import printable


def ask_credentials(registry: str, username: str | None, cancel: CancelToken) -> Credentials | None:
    """Ask for user name (unless it is known) and password; None if there is no terminal. Raises Cancelled."""
    import getpass

    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    with cancel.on_cancel(cancel.check):  # Waiting for input goes on after a signal.
        sys.stderr.write(f"registry: {printable(registry)}\n")
        try:
            if username is None:
                sys.stderr.write("username: ")
                sys.stderr.flush()
                username = sys.stdin.readline().rstrip("\n")
            password = getpass.getpass("password: ")
        except EOFError:
            return None
    return Credentials(username, password) if username else None
