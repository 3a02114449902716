"""Commands behind the published numbers; each writes Markdown under docs/results."""
