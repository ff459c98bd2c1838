"""All that is kept in Airflow: XCom and, from Airflow 3.3, the task state store."""
