"""The page that a demo or a replay ends with: one HTML file that works offline."""
