"""The reference pages, written from the product itself: what it can do is what they say."""
