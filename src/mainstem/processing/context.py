"""What a handler may ask about the attempt it is: its second parameter."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Context:
    """The attempt in progress. `resources` is what the app's lifespan yielded."""

    stream: str
    group: str
    handler: str
    attempt: int  # from 1, crashes included
    resources: Any
    logger: logging.Logger
    _lost: Callable[[], bool]

    @property
    def lease_lost(self) -> bool:
        """Whether another worker owns the event by now: stop, the result will be refused."""
        return self._lost()
