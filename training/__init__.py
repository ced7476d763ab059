"""What learns: reward models and policies. Torch is imported here, and always in a process of its own."""
