"""What other packages add: the protocols, and how they are found."""
