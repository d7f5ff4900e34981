"""What is in a text: records as they come in, known answers, filters, and how alike two texts are."""
