"""Text: a language model of characters or bytes, which writes and judges texts."""
