"""What is in a text: filters, and how alike two texts are."""
