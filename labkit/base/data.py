"""The kit's data class, for what describes: plans, reports, results."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform

    T = TypeVar("T")

    @dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
    def frozen(kind: type[T]) -> type[T]:
        """Make a class a dataclass that is made by keywords and never changed."""
else:
    frozen = dataclass(frozen=True, kw_only=True)
