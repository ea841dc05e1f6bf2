"""What the hub's cache holds on this machine, by a look at its files."""

from __future__ import annotations


def offline() -> bool:
    """Whether the hub's library was told to ask nobody."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def in_cache(repository: str, *names: str) -> bool:
    """Whether the cache holds one of some files of a repository.

    Example:
        >>> in_cache("nobody/has-this", "config.json")
        False
    """
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(repository, name), str) for name in names)
