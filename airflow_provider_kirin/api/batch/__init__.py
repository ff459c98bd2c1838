"""What a batch does next: which rows to submit, when to wake a worker, what a crash leaves. No I/O, no clock."""
