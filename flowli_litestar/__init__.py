"""Flowli in Litestar: one plugin, which gives routes their registry, runs jobs beside the app, and adds commands."""

from flowli_core.healthz import Healthz
from flowli_litestar.config import FlowliConfig
from flowli_litestar.plugin import FlowliPlugin

__all__ = ["FlowliConfig", "FlowliPlugin", "Healthz"]
