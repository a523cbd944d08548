"""From a text to speech. The engine's thread, sounds' encoders too: they take a hundredth of what speaking takes."""
