"""Executors: one signature, `execute(tiles, job) -> Iterator[Outcome]`, results in completion order."""
