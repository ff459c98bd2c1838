"""``python -m airflow_provider_kirin.emulator``."""

import sys

from airflow_provider_kirin.emulator.cli import main

if __name__ == "__main__":
    sys.exit(main())
