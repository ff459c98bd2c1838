"""From an expiring URL to a whole file, on any storage that Airflow can reach."""
