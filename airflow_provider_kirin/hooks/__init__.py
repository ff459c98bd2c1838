#: The connection that counts where none is named. Here, because each DAG file loads it, and little else of the hooks.
DEFAULT_CONN_ID = "kirin_default"
