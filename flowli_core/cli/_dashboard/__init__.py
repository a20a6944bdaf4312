"""`flowli dashboard`: the dashboard on an address of this machine, for whoever has the link that it prints."""
