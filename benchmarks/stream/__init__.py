"""How fast records become aligned ticks, beside bare clients and Quix Streams."""
