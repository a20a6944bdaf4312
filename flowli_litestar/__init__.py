"""Flowli for Litestar: a plugin that injects the registry into handlers, runs an embedded runner, and adds commands."""

from importlib.util import find_spec

if find_spec("litestar") is None:
    raise ModuleNotFoundError("flowli_litestar needs Litestar: pip install 'flowli[litestar]'", name="litestar")

from flowli_core.healthz import Healthz
from flowli_litestar._config import FlowliConfig
from flowli_litestar._plugin import FlowliPlugin

__all__ = ["FlowliConfig", "FlowliPlugin", "Healthz"]
