"""The dashboard, as a browser without scripts sees it."""
