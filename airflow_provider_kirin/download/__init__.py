"""Downloads: from an expiring URL to a complete file on any storage that Airflow can reach."""
