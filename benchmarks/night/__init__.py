"""A night's work in a real Airflow: many generations, by our operators and by what one would write without them."""
