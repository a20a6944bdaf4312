"""The service in Starlette: `make example-starlette`."""
