"""Flowli for Litestar: a plugin that injects the registry into handlers, runs an embedded runner, and adds commands."""

from flowli_core.healthz import Healthz
from flowli_litestar._config import FlowliConfig
from flowli_litestar._plugin import FlowliPlugin

__all__ = ["FlowliConfig", "FlowliPlugin", "Healthz"]
