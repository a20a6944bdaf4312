"""Tests of the contract, which run with every driver. See `drivers.py` for the list of drivers."""
