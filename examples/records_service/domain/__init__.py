"""What the service does, whatever it is served with."""
