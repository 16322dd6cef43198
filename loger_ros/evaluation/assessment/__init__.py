"""A model held against its goals: whole sequences, every baseline, chunks, memory, speed."""
