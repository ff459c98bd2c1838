"""Makes the videos: real MP4 files, with sound where the model has it."""
