"""Fixtures of several files here."""

from tests.training.teams import in_team

__all__ = ["in_team"]
