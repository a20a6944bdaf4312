"""A small service that takes records, and does the rest of the work for each of them in jobs.

    uvicorn records_service.main:app --app-dir examples

`jobs` is the page to read first; `main` puts the parts together, `routes` uses them.
"""
