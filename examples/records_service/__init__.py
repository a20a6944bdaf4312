"""A small service that takes records, and does the rest of the work for each of them in jobs: three times.

    uvicorn records_service.on_fastapi.main:app --app-dir examples

`domain` knows no framework: its `jobs` is the page to read first. `on_fastapi`, `on_starlette` and `on_litestar` are
the same service in each of the three: `main` starts it, `app` puts it together, `routes` uses the jobs.
"""
