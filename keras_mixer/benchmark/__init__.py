"""Speed, memory, scaling and start-up, each configuration measured in a process of its own."""
