"""Commands behind the published numbers; each makes a page of Markdown, of those under docs."""
