"""What comes from others, made wrong in every way: an error of ours, or an answer, and never anything else.

A few examples each time; ``ASYNCRANE_FUZZ=100`` makes it a hundred times as many (``make fuzz``).
"""
