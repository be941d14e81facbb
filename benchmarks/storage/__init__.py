"""What a record costs to keep: on the broker's disk, in the lake, and in the broker's CPU time."""
