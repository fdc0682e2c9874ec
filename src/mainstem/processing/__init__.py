"""
What happens between receiving an event and settling it: retry, dead letters, concurrency, batches, draining.

One policy a file, decisions as pure functions; written once, above the engine contract. Nothing here names an engine.
"""
