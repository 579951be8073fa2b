"""One suite for every listener: real server processes, real sockets, the wire to the letter."""
