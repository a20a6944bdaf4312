"""Recipes: short modules to copy into an application."""
