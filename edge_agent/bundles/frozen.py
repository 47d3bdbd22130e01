"""Frozen: what every part of a manifest is made of.

In: numbers and texts of a JSON document. Out: values that never change. Never: takes an unknown
key, infinity or not-a-number.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Finite: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
Positive: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Frozen(BaseModel):
    """Immutable, and an unknown key is an error: a typo must not pass for a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")
