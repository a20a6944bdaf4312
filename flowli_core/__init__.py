"""Typed background jobs for ASGI backends: declare once, run in a request, in a test or in a durable worker."""

from flowli_core._current import CurrentJob, current_job
from flowli_core._jobs.bulk import BulkResult
from flowli_core._jobs.context import PerJob, per_job
from flowli_core._jobs.declare import With, job
from flowli_core._jobs.declared_schedule import DeclaredSchedule
from flowli_core._jobs.execution import Execution, Middleware, Proceed
from flowli_core._jobs.history import Durations, History, HistoryNumbers, HistoryPoint, JobHistory
from flowli_core._jobs.job import BoundJob, Job, NoMeta
from flowli_core._jobs.limit import LaneValue, Limit
from flowli_core._jobs.past_attempts import PastAttempt
from flowli_core._jobs.records import JobRecord, Page, Receipt, ScheduleReceipt, ScheduleRecord
from flowli_core._jobs.registry import Jobs
from flowli_core._jobs.settings import Defaults
from flowli_core._jobs.updates import JobUpdate
from flowli_core._progress import LogLine, Progress
from flowli_core._running.events import RunCounts
from flowli_core._running.hooks import Hook, Hooks, JobEvent, Observer
from flowli_core._running.runner import Health, Runner
from flowli_core._schedules.timing import AllMissed, Missed, Overlap
from flowli_core._sync import run_sync
from flowli_core.driver import Driver
from flowli_core.errors import (
    DefinitionError,
    DriverError,
    FlowliError,
    Issue,
    JobCancelled,
    JobFailed,
    LastError,
    LeaseLost,
    OutboxUnavailable,
    RecordNotFound,
    SchedulingError,
    StoreDamaged,
    StoreUnavailable,
    StrategyError,
    ValidationError,
)
from flowli_core.lanes import Rate
from flowli_core.limits import Keep
from flowli_core.retry import Abort, Exponential, Fixed, JobTimeout, Retry, RetryAfter, exponential, fixed
from flowli_core.stored import FinishedState, Overview, QueueCounts, State, StateCounts
from flowli_core.targets import CancelAnswer, RequeueAnswer

__version__ = "0.1.0"

__all__ = [
    "Abort",
    "AllMissed",
    "BoundJob",
    "BulkResult",
    "CancelAnswer",
    "CurrentJob",
    "DeclaredSchedule",
    "Defaults",
    "DefinitionError",
    "Driver",
    "DriverError",
    "Durations",
    "Execution",
    "Exponential",
    "FinishedState",
    "Fixed",
    "FlowliError",
    "Health",
    "History",
    "HistoryNumbers",
    "HistoryPoint",
    "Hook",
    "Hooks",
    "Issue",
    "Job",
    "JobCancelled",
    "JobEvent",
    "JobFailed",
    "JobHistory",
    "JobRecord",
    "JobTimeout",
    "JobUpdate",
    "Jobs",
    "Keep",
    "LaneValue",
    "LastError",
    "LeaseLost",
    "Limit",
    "LogLine",
    "Middleware",
    "Missed",
    "NoMeta",
    "Observer",
    "OutboxUnavailable",
    "Overlap",
    "Overview",
    "Page",
    "PastAttempt",
    "PerJob",
    "Proceed",
    "Progress",
    "QueueCounts",
    "Rate",
    "Receipt",
    "RecordNotFound",
    "RequeueAnswer",
    "Retry",
    "RetryAfter",
    "RunCounts",
    "Runner",
    "ScheduleReceipt",
    "ScheduleRecord",
    "SchedulingError",
    "State",
    "StateCounts",
    "StoreDamaged",
    "StoreUnavailable",
    "StrategyError",
    "ValidationError",
    "With",
    "current_job",
    "exponential",
    "fixed",
    "job",
    "per_job",
    "run_sync",
]
