"""A Kirin gateway on your own machine, for demos, DAG tests and this package's own tests.

Start it with ``python -m airflow_provider_kirin.emulator``; docs/emulator.md tells the rest. Nothing here imports the
client's code, and nothing in the client imports this: a misreading of the API cannot be shared by both sides of a test.

Tags in the docstrings say how sure a fact is: [V] documented by Vtrix or SeaCloud, [C] seen in first-party clients,
[K] documented by Kling only, [I] inferred, [E] invented here. Sections are those of the protocol notes.
"""
