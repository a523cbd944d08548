"""Workers on a Ray cluster: Ray finds a node and keeps an agent there, and messages go past it.

`starts.py` is the front end's, `broker.py` a process of its own beside it, the only one that talks to Ray. `agent.py`
is the actor on a node: it starts our worker process, which the front end calls directly (`meeting.py`, by TLS).
`shares.py` is the one actor that all front ends of a cluster have in common.
"""
