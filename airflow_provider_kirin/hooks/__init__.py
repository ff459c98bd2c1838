#: The default connection id. It is defined here because every DAG file loads it, without loading the hooks.
DEFAULT_CONN_ID = "kirin_default"
