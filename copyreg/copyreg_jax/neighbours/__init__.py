"""What stands next to copyright regression: removal, near access-freeness, royalties, compression.

One number links them. For protected content C, ``K(C) = log2 p(C) - log2 safe(C)`` bits, where p
is the model and ``safe`` is one that never saw C. It is the code length that is saved by having
trained on C, and the unit in which owners share royalties; its largest value over all content is
the exponent of near access-freeness.
"""
