"""A small service that stores records and does the follow-up work in background jobs, in three frameworks.

    uvicorn records_service.on_fastapi.main:app --app-dir examples

Read `domain/jobs.py` first. `domain` does not depend on a framework. `on_fastapi`, `on_starlette` and `on_litestar` are
the same service three times: `main` starts it, `app` builds the application, `routes` calls the jobs.
"""
