"""The service in Litestar: `make example-litestar`."""
