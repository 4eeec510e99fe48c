"""What is said to people: errors, their codes, and places in files."""
