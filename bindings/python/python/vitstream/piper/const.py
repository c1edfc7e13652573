"""What stands in every sentence, under piper-tts's names."""

PAD = "_"
"""Between phonemes."""
BOS = "^"
"""Before the first."""
EOS = "$"
"""Behind the last."""
