"""Flowli in Litestar. The plugin is not written yet; `flowli_core.embedded` does all that it will wrap."""
