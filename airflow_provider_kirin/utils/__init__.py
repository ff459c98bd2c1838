"""Airflow's edges."""
