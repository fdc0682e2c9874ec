"""mainstem: the real-time event backbone of a Python product. One event, one handler API, engines chosen by URL."""

from mainstem.app import Mainstem
from mainstem.cloudevents import from_cloudevent, to_cloudevent
from mainstem.errors import (
    ConfigError,
    DecodeError,
    EventRejected,
    LeaseLost,
    MainstemError,
    OutcomeUnknown,
    PermissionDenied,
    Unavailable,
    Unsupported,
    VersionConflict,
)
from mainstem.event import Metadata, Received, StreamEvent
from mainstem.observability.monitor import StreamMetrics, StreamMonitor
from mainstem.processing.context import Context
from mainstem.processing.outcomes import BatchFailed, Reject, RetryLater, Skip
from mainstem.processing.retry import Retry
from mainstem.stream import EventStream, StreamPattern

__all__ = [
    "BatchFailed",
    "ConfigError",
    "Context",
    "DecodeError",
    "EventRejected",
    "EventStream",
    "LeaseLost",
    "Mainstem",
    "MainstemError",
    "Metadata",
    "OutcomeUnknown",
    "PermissionDenied",
    "Received",
    "Reject",
    "Retry",
    "RetryLater",
    "Skip",
    "StreamEvent",
    "StreamMetrics",
    "StreamMonitor",
    "StreamPattern",
    "Unavailable",
    "Unsupported",
    "VersionConflict",
    "from_cloudevent",
    "to_cloudevent",
]
