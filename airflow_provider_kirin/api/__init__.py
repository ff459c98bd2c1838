"""The Kirin protocol without I/O and without Airflow: plain functions and frozen dataclasses."""
