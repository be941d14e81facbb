"""How the edge does, beside what is known of its peers."""
