"""The service in FastAPI: `make example-fastapi`."""
