"""Ray's token: where it is found, and what to say to one whose token a cluster does not take."""

from __future__ import annotations

import os
from pathlib import Path

MODE = "RAY_AUTH_MODE"
TOKEN = "RAY_AUTH_TOKEN"  # noqa: S105  (names of variables)
TOKEN_PATH = "RAY_AUTH_TOKEN_PATH"  # noqa: S105
DEFAULT_FILE = Path("~/.ray/auth_token")


def token_source() -> str | None:
    """Return where Ray will find a token, in its own order: the variable, the file that a variable names, the file at home."""
    if os.environ.get(TOKEN):
        return TOKEN
    if named := os.environ.get(TOKEN_PATH):
        # Ray does not look further when the variable is set.
        return f"{TOKEN_PATH} ({named})" if Path(named).expanduser().is_file() else None
    return str(DEFAULT_FILE) if DEFAULT_FILE.expanduser().is_file() else None


def prefer_token() -> None:
    """Let a driver that joins a cluster send the token where there is one: Ray does not, unless a variable tells it to.

    Ray reads the variable once, when it is imported: in a process that did so already it is too late.
    """
    if token_source() is not None:
        os.environ.setdefault(MODE, "token")


def headers() -> dict[str, str] | None:
    """Return what a request to a dashboard carries; None where there is no token, or a variable keeps it back."""
    source = token_source()
    if source is None or os.environ.get(MODE, "token") != "token":
        return None
    file = Path(os.environ.get(TOKEN_PATH) or DEFAULT_FILE).expanduser()
    token = os.environ.get(TOKEN) or file.read_text(encoding="utf-8").strip()
    return {"Authorization": f"Bearer {token}"}


def refusal(address: str) -> str:
    """Return the sentence for a 401 or a 403."""
    source = token_source()
    if source is None:
        named = os.environ.get(TOKEN_PATH)
        lost = f" ({TOKEN_PATH} names {named}, which is no file)" if named else ""
        where = f"put the cluster's token into {TOKEN}, into a file named by {TOKEN_PATH}, or into {DEFAULT_FILE}"
        return f"the cluster at {address} wants a token and none was found{lost}: {where}."
    if os.environ.get(MODE, "token") != "token":
        return f"the cluster at {address} wants a token, and {MODE}={os.environ[MODE]} keeps the one of {source} from being sent."
    return f"the cluster at {address} refused the token of {source}: it is another cluster's, or an old one."
