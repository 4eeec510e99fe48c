"""What op graphs compute."""
