"""The service as it runs: `uvicorn records_service.on_litestar.main:app --app-dir examples`."""

from __future__ import annotations

from ..domain.service import Parts
from ..domain.settings import Settings
from .app import create_app

app = create_app(Parts.make(Settings.from_env()))
