"""The sentences: one async function per thing to do. They parse words, ask a session for places, and return values."""
