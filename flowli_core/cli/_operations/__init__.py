"""The commands of an operator: show and change jobs and schedules, and check the store."""
