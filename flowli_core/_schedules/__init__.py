"""Schedules: when they fire, and how they are stored. Everything but `changes` is pure, and needs no store."""
