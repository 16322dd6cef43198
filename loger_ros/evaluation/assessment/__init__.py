"""A model compared with its goals: whole sequences, all baselines, chunks, memory and speed."""
