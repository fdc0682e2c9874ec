"""
Local servers, run as processes of their own: found, started, kept and stopped.

Below the engines: imports only mainstem.errors and the standard library, so that looking for a server costs no client
library. Speaking to a server beyond "are you there" belongs to the engines.
"""
