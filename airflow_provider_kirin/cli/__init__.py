"""``airflow kirin ...``, or ``python -m airflow_provider_kirin ...`` on an Airflow without provider commands."""
