"""Every failure a learner can meet, one class each."""

from __future__ import annotations


class LabkitError(Exception):
    """Base of all of them: catch this to catch any."""


class ImageError(LabkitError):
    """A picture that cannot be read or used."""
