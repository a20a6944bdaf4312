"""A page with a live progress bar: `uvicorn progress_bar.app:app --app-dir examples`."""
