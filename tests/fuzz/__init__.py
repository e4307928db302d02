"""Damaged samples for all readers of bytes from outside.

::

    samples  layouts            sound inputs: small ones, and what stock Xen and QEMU wrote
    noise                       changes of bytes and of sequences of any meaning
    pieces                      changes of a stream by its pieces, their framing kept right or not
    records  texts  wires       the pieces of each format, and how each is edited
    targets  operations         the readers, and their legal outcomes
    migration                   the same for what two hosts send each other
    costly                      inputs that cost as much as their size allows, and what they take
    limits                      processor time and memory of one input
    engine                      one input: made of its number, given to its target, judged
    workers                     many inputs on all processors, each failure with its number

All of an input follows from its target's name and one number, its seed.
"""
