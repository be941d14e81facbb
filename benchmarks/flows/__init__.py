"""What each flow costs, in time and memory, as the data grow."""
