"""Everything kept in Airflow: XComs and, on Airflow 3.3 and later, the task state store."""
