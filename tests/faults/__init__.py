"""What goes wrong, at every point of a turn: faults that are made on purpose, against real server processes."""
