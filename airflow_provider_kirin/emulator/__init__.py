"""A Kirin gateway on your own machine, for demos, DAG tests and this package's own tests.

Start it with ``python -m airflow_provider_kirin.emulator``; see docs/reference/emulator.md. Nothing here imports the
client's code, nor the client this package, so that the two sides of a test cannot share a misreading of the API.

Tags in the docstrings state how certain a fact is: [V] documented by Vtrix or SeaCloud, [C] seen in first-party
clients, [K] documented by Kling only, [I] inferred, [E] invented here. Section numbers refer to the protocol notes.
"""
