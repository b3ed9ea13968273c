"""Tables as text: their layout, their notes, and how Markdown and LaTeX write them."""
