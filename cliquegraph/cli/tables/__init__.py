"""What commands print: results as JSON data and as tables."""
