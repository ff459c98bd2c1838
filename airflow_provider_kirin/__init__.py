"""Kirin video generation as steps of an Apache Airflow DAG."""

__version__ = "0.1.0"
