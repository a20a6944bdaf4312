"""A page that shows jobs and changes them: `pip install flowli[dashboard]`.

    app.mount("/jobs", Dashboard(jobs, authorize=may_use_dashboard))

`Dashboard` is an ASGI application. It needs no build step, and sends no request to another host.
"""

from importlib.util import find_spec

for _needed in ("jinja2", "starlette"):
    if find_spec(_needed) is None:
        raise ModuleNotFoundError(
            f"flowli_core.dashboard needs {_needed}: pip install 'flowli[dashboard]'", name=_needed
        )

from flowli_core.dashboard._access import Action, Authorize
from flowli_core.dashboard._app import Dashboard

__all__ = ["Action", "Authorize", "Dashboard"]
