"""Tables: what stands in them, their layout and notes, and how Markdown, LaTeX and CSV write them."""
