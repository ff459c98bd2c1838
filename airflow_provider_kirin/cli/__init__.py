"""``airflow kirin ...``, or ``python -m airflow_provider_kirin ...`` where Airflow takes no providers' commands."""
