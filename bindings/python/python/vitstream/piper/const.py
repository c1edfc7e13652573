"""Special symbols in every sentence, under piper-tts's names."""

PAD = "_"
"""Symbol between phonemes."""
BOS = "^"
"""Symbol before the first phoneme."""
EOS = "$"
"""Symbol after the last phoneme."""
