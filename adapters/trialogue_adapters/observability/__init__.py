"""What a server tells of what it does: log lines and spans, with names that can be hidden and never any content."""
