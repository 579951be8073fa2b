"""What the wire promises, checked by machine: random schedules on the real shell, and real servers behind cuts."""
