"""Operators that submit generations, wait for them and download their videos."""

from airflow_provider_kirin.operators.download import KirinDownloadOperator
from airflow_provider_kirin.operators.generate import KirinGenerateVideoOperator
from airflow_provider_kirin.operators.submit import KirinSubmitOperator

__all__ = ["KirinDownloadOperator", "KirinGenerateVideoOperator", "KirinSubmitOperator"]
