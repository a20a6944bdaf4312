"""A page that shows jobs and changes them: `pip install flowli[dashboard]`.

    app.mount("/jobs", Dashboard(jobs, authorize=may_use_dashboard))

`Dashboard` is an ASGI application. It needs no build step, and sends no request to another host.
"""

from importlib.util import find_spec

if find_spec("jinja2") is None or find_spec("starlette") is None:
    raise ModuleNotFoundError("flowli_core.dashboard needs jinja2 and starlette: pip install 'flowli[dashboard]'")

from flowli_core.dashboard._access import Action, Authorize
from flowli_core.dashboard._app import Dashboard

__all__ = ["Action", "Authorize", "Dashboard"]
