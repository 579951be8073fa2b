"""What the scripts share: fake services, the servers and how they are launched, clients, statistics, reports."""
