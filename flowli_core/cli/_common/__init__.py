"""The parts that all commands share: finding the registry, options, the event loop, logs, output, exit codes."""
