"""What every driver must do: one suite, run against each of them. See `drivers.py` for the list."""
